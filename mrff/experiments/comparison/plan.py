"""The TOML of a comparison, checked and spread out into rows: a method on a dataset with a seed."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mrff.config import ConfigError, RunConfig
from mrff.config.declaration import Value
from mrff.config.methods import Method, method_named
from mrff.config.names import SETTINGS, refuse_unknown
from mrff.experiments.comparison.reading import (
    Settings,
    names_of,
    preset_of,
    seeds_of,
    settings_of,
    sources_of,
    split_by_dataset,
    table_in,
    tables_of,
    whole_number,
)

_KEYS = [
    "name", "methods", "datasets", "seeds", "reference", "nodes", "cpus-per-node", "preset",
    "settings", "dataset", "method", "vary", "sources", "statistics",
]  # fmt: skip

Variant = tuple[Method, Settings]  # a method, and what is changed of it


@dataclass(frozen=True)
class Statistics:
    """How differences are tested."""

    resamples: int = 10_000  # of users and seeds; the smallest p-value is 2 / (resamples + 1)
    confidence: float = 0.95  # of intervals, one by one; p-values are what Holm corrects
    significance: float = 0.05  # of corrected p-values
    min_users: int = 50  # fewer users than that: no interval, no p-value
    seed: int = 0


@dataclass(frozen=True)
class PlanPart:
    """What to run of a comparison instead of all that its file lists; empty: as in the file."""

    methods: Sequence[str] = ()  # methods, of the file or not, and variants as they are shown
    datasets: Sequence[str] = ()
    seeds: Sequence[int] = ()
    settings: Mapping[str, Value] = field(default_factory=dict)  # of every run
    name: str = ""  # empty: the comparison's, and "-part" where anything differs

    @property
    def is_all(self) -> bool:
        """Whether the file is taken as it is."""
        return not (self.methods or self.datasets or self.seeds or self.settings)


@dataclass(frozen=True)
class Row:
    """One line of the results, before it is run."""

    dataset: str
    method: str  # as shown: the method's name, and what a variant changes
    base: Method
    seed: int | None  # None: the method draws nothing
    settings: Settings  # of the run, but for names and places

    @property
    def label(self) -> str:
        """How people are told of it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.dataset}: {self.method}{seed}"


@dataclass(frozen=True)
class ComparisonPlan:
    """A whole comparison."""

    name: str
    path: Path
    datasets: list[str]
    methods: list[str]  # as shown, in the order of the file
    reference: str
    seeds: list[int]
    nodes: int
    cpus_per_node: int
    sources: dict[str, Path]
    statistics: Statistics
    rows: list[Row] = field(repr=False)


def read_plan(path: Path, *, presets: Path, part: PlanPart | None = None) -> ComparisonPlan:
    """Reads a comparison and spreads it out.

    Args:
        presets: a folder with settings of datasets, ``NAME.toml``, as in ``conf/``.
        part: what of it to run; none: all of it.

    Raises:
        ConfigError: unreadable, or a method, key or value that cannot be used; says where.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the comparison in {path}: {error}") from error
    try:
        return _plan(path, content, presets, part or PlanPart())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _plan(path: Path, content: dict[str, Any], presets: Path, part: PlanPart) -> ComparisonPlan:
    refuse_unknown(content, _KEYS)
    listed, datasets_listed = names_of(content, "methods"), names_of(content, "datasets")
    datasets = _chosen(part.datasets, "datasets") or datasets_listed
    seeds = seeds_of(list(part.seeds) or content.get("seeds", [0]))
    name = _name(path, content, part)
    shown, reference = _shown(listed, content, part)
    known_datasets = list(dict.fromkeys([*datasets_listed, *datasets]))
    known_methods = list(dict.fromkeys([*listed, *(base.name for base, _ in shown.values())]))
    general = settings_of(content.get("settings", {}), "settings")
    of_datasets = tables_of(content, "dataset", known_datasets)
    plain, tuned = split_by_dataset(table_in(content, "method"), known_datasets)
    of_methods = tables_of({"method": plain}, "method", known_methods)
    wanted = settings_of(dict(part.settings), "--set")
    rows = []
    for dataset, (label, (base, changes)) in itertools.product(datasets, shown.items()):
        settings = {  # the more particular one wins
            **preset_of(presets, dataset, str(content.get("preset", ""))),
            **general,
            **of_datasets.get(dataset, {}),
            **base.overrides,
            **of_methods.get(base.name, {}),
            **tuned.get((base.name, dataset), {}),
            **{key: value for key, value in wanted.items() if key not in base.overrides},
            **changes,
        }
        for seed in seeds if base.draws else [None]:
            rows.append(_row(dataset, label, base, seed, settings))
    return ComparisonPlan(
        name=name,
        path=path,
        datasets=datasets,
        methods=list(shown),
        reference=reference,
        seeds=seeds,
        nodes=whole_number(content, "nodes", 2),
        cpus_per_node=whole_number(content, "cpus-per-node", 1),
        sources=sources_of(path, content, known_datasets),
        statistics=_statistics(table_in(content, "statistics")),
        rows=rows,
    )


def _name(path: Path, content: dict[str, Any], part: PlanPart) -> str:
    name = part.name or str(content.get("name", path.stem)) + ("" if part.is_all else "-part")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name == "cells":
        raise ConfigError(
            f"name may hold letters, digits, '.', '_' and '-' only and is not cells, got {name!r}"
        )
    return name


def _shown(
    listed: list[str], content: dict[str, Any], part: PlanPart
) -> tuple[dict[str, Variant], str]:
    """What is compared, by the name shown, and the name of the reference."""
    every = _variants(listed, content.get("vary", []))
    chosen = _chosen(part.methods, "methods")
    shown = {n: every.get(n) or (method_named(n), {}) for n in chosen} or every
    reference = str(content.get("reference", "mrff" if "mrff" in shown else next(iter(shown))))
    if reference not in shown:
        hint = "; name it in --methods, too" if chosen and reference in every else ""
        raise ConfigError(f"reference must be one of {', '.join(shown)}, got {reference!r}{hint}")
    return shown, reference


def _chosen(names: Sequence[str], key: str) -> list[str]:
    """The names of a part, checked; none where the part chooses none."""
    return names_of({key: list(names)}, key) if names else []


def _row(dataset: str, label: str, base: Method, seed: int | None, settings: Settings) -> Row:
    values: Settings = {**settings, "data.dataset": dataset, "training.seed": seed or 0}
    try:
        RunConfig.from_flat(values)
    except ConfigError as error:
        raise ConfigError(f"method {label} on {dataset}: {error}") from error
    return Row(dataset, label, base, seed, values)


def _variants(methods: list[str], vary: Any) -> dict[str, Variant]:
    """All that the file names, by the name shown: methods, then every combination of each table."""
    shown: dict[str, Variant] = {n: (method_named(n), {}) for n in methods}
    if not isinstance(vary, list) or not all(isinstance(table, dict) for table in vary):
        raise ConfigError("vary is given as [[vary]] tables: a method, and keys with lists")
    for table in vary:
        base = method_named(str(table.get("method", methods[0])))
        varied = {key: values for key, values in table.items() if key != "method"}
        lists: dict[str, Any] = dict(settings_of(varied, "vary"))
        for key, values in lists.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"vary: {key} must be a list of values, got {values!r}")
        for chosen in itertools.product(*lists.values()):
            changes = dict(zip(lists, chosen, strict=True))
            told = " ".join(f"{SETTINGS[key].leaf}={_text(v)}" for key, v in changes.items())
            shown[f"{base.name} {told}"] = (base, changes)
    return shown


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _statistics(values: dict[str, Any]) -> Statistics:
    given = {key.replace("-", "_"): value for key, value in values.items()}
    refuse_unknown(values, [f.name.replace("_", "-") for f in fields(Statistics)])
    for key in ("confidence", "significance"):
        share = given.get(key, 0.5)
        if type(share) is not float or not 0 < share < 1:
            raise ConfigError(f"statistics: {key} must be between 0 and 1, got {share!r}")
    resamples = whole_number(values, "resamples", 100)
    if resamples < 100:
        raise ConfigError(f"statistics: resamples must be at least 100, got {resamples}")
    whole_number(values, "min-users", 1)
    seed = values.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise ConfigError(f"statistics: seed must be a whole number from 0, got {seed!r}")
    return Statistics(**given)

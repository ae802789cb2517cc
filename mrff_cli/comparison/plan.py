"""The TOML of a comparison, checked and spread out into rows: a method on a dataset with a seed."""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrff_config import ConfigError, RunConfig
from mrff_config.methods import Method, method_named
from mrff_config.parsing import Value, refuse_unknown
from mrff_config.run_config import known_keys

Settings = dict[str, Value]

_KEYS = [
    "name", "methods", "datasets", "seeds", "reference", "nodes", "cpus-per-node",
    "settings", "dataset", "method", "vary", "sources", "statistics",
]  # fmt: skip
_OWN = ("dataset", "data-dir", "home", "seed", "run-name", "resume", "keep-test-scores")


@dataclass(frozen=True)
class Statistics:
    """How differences are tested."""

    resamples: int = 10_000  # of users and seeds; the smallest p-value is 2 / (resamples + 1)
    confidence: float = 0.95  # of intervals, one by one; p-values are what Holm corrects
    significance: float = 0.05  # of corrected p-values
    min_users: int = 50  # fewer users than that: no interval, no p-value
    seed: int = 0


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
class Plan:
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


def read_plan(path: Path, *, presets: Path) -> Plan:
    """Reads a comparison and spreads it out.

    Args:
        presets: a folder with settings of datasets, ``NAME.toml``, as in ``conf/``.

    Raises:
        ConfigError: unreadable, or a method, key or value that cannot be used; says where.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the comparison in {path}: {error}") from error
    try:
        return _plan(path, content, presets)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _plan(path: Path, content: dict[str, Any], presets: Path) -> Plan:
    refuse_unknown(content, _KEYS)
    methods = _names(content, "methods")
    datasets = _names(content, "datasets")
    seeds = _seeds(content.get("seeds", [0]))
    name = str(content.get("name", path.stem))
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name == "cells":
        raise ConfigError(
            f"name may hold letters, digits, '.', '_' and '-' only and is not cells, got {name!r}"
        )
    shown = _variants(methods, content.get("vary", []))
    reference = str(content.get("reference", "mrff" if "mrff" in shown else next(iter(shown))))
    if reference not in shown:
        raise ConfigError(f"reference must be one of {', '.join(shown)}, got {reference!r}")
    per_dataset = _tables(content, "dataset", datasets)
    plain, tuned = _by_dataset(content.get("method", {}), datasets)
    per_method = _tables({"method": plain}, "method", methods)
    general = _settings(content.get("settings", {}), "settings")
    rows = []
    for dataset, (label, (base, changes)) in itertools.product(datasets, shown.items()):
        settings = {
            **_preset(presets, dataset),
            **general,
            **per_dataset.get(dataset, {}),
            **base.overrides,
            **per_method.get(base.name, {}),
            **tuned.get((base.name, dataset), {}),
            **changes,
        }
        for seed in [None] if base.kind == "floor" and not _draws(base) else seeds:
            rows.append(_row(dataset, label, base, seed, settings))
    return Plan(
        name=name,
        path=path,
        datasets=datasets,
        methods=list(shown),
        reference=reference,
        seeds=seeds,
        nodes=_whole(content, "nodes", 2),
        cpus_per_node=_whole(content, "cpus-per-node", 1),
        sources=_sources(path, content.get("sources", {}), datasets),
        statistics=_statistics(content.get("statistics", {})),
        rows=rows,
    )


def _row(dataset: str, label: str, base: Method, seed: int | None, settings: Settings) -> Row:
    values: Settings = {**settings, "dataset": dataset, "seed": seed or 0}
    try:
        RunConfig.from_flat(values)
    except ConfigError as error:
        raise ConfigError(f"method {label} on {dataset}: {error}") from error
    return Row(dataset, label, base, seed, values)


def _draws(base: Method) -> bool:
    """Whether a floor depends on the seed: trees sample, rates only count."""
    return not base.name.endswith("-rate")


def _variants(methods: list[str], vary: Any) -> dict[str, tuple[Method, Settings]]:
    """What is compared, by the name shown: the methods, then every combination of each table."""
    shown: dict[str, tuple[Method, Settings]] = {n: (method_named(n), {}) for n in methods}
    if not isinstance(vary, list) or not all(isinstance(table, dict) for table in vary):
        raise ConfigError("vary is given as [[vary]] tables: a method, and keys with lists")
    for table in vary:
        base = method_named(str(table.get("method", methods[0])))
        lists = {key: values for key, values in table.items() if key != "method"}
        _settings(dict.fromkeys(lists, 0), "vary")
        for key, values in lists.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"vary: {key} must be a list of values, got {values!r}")
        for chosen in itertools.product(*lists.values()):
            changes = dict(zip(lists, chosen, strict=True))
            told = " ".join(f"{key}={_text(value)}" for key, value in changes.items())
            shown[f"{base.name} {told}"] = (base, changes)
    return shown


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _names(content: Mapping[str, Any], key: str) -> list[str]:
    names = content.get(key, [])
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"{key} must be a list of names, got {names!r}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"{key} names {twice.pop()!r} twice")
    return list(names)


def _seeds(seeds: Any) -> list[int]:
    is_list = isinstance(seeds, list) and seeds
    if not is_list or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds must be a list of whole numbers from 0, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must differ, got {seeds}")
    return list(seeds)


def _whole(content: Mapping[str, Any], key: str, default: int) -> int:
    value = content.get(key, default)
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} must be a whole number of at least 1, got {value!r}")
    return value


def _settings(values: Any, place: str) -> Settings:
    """Settings of runs, but none that the comparison itself decides."""
    if not isinstance(values, dict):
        raise ConfigError(f"{place} must be a table of settings, got {values!r}")
    for key in values:
        if key in _OWN:
            raise ConfigError(f"{place}: {key} is set by the comparison; leave it out")
    try:
        refuse_unknown(values, known_keys())
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    return dict(values)


def _tables(content: Mapping[str, Any], key: str, names: list[str]) -> dict[str, Settings]:
    tables = content.get(key, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{key} must hold tables such as [{key}.{names[0]}], got {tables!r}")
    for name in tables:
        if name not in names:
            raise ConfigError(
                f"[{key}.{name}] belongs to no {key} of this comparison{_near(name, names)}"
            )
    return {name: _settings(values, f"{key}.{name}") for name, values in tables.items()}


def _by_dataset(methods: Any, datasets: list[str]) -> tuple[Any, dict[tuple[str, str], Settings]]:
    """The tables of methods without their tables of one dataset, and those by method, dataset."""
    if not isinstance(methods, dict):
        return methods, {}
    plain: dict[str, Any] = {}
    tuned: dict[tuple[str, str], Settings] = {}
    for method, values in methods.items():
        plain[method] = values
        if not isinstance(values, dict):
            continue
        plain[method] = {key: v for key, v in values.items() if not isinstance(v, dict)}
        for dataset in values.keys() - plain[method].keys():
            place = f"method.{method}.{dataset}"
            if dataset not in datasets:
                raise ConfigError(
                    f"[{place}] belongs to no dataset of this comparison{_near(dataset, datasets)}"
                )
            tuned[method, dataset] = _settings(values[dataset], place)
    return plain, tuned


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(names)}"


def _preset(presets: Path, dataset: str) -> Settings:
    path = presets / f"{dataset}.toml"
    if "/" in dataset or not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error}") from error
    values.pop("dataset", None)
    return _settings(values, path.name)


def _sources(path: Path, sources: Any, datasets: list[str]) -> dict[str, Path]:
    if not isinstance(sources, dict) or not all(isinstance(s, str) for s in sources.values()):
        raise ConfigError(f"sources must be a table of dataset = PATH, got {sources!r}")
    for name in sources:
        if name not in datasets:
            raise ConfigError(f"sources: {name} is no dataset here{_near(name, datasets)}")
    return {n: path.parent.absolute() / Path(s).expanduser() for n, s in sources.items()}


def _statistics(values: Any) -> Statistics:
    if not isinstance(values, dict):
        raise ConfigError(f"statistics must be a table, got {values!r}")
    refuse_unknown(values, ["resamples", "confidence", "significance", "min-users", "seed"])
    default = Statistics()
    shares = {}
    for key in ("confidence", "significance"):
        share = values.get(key, getattr(default, key))
        if type(share) is not float or not 0 < share < 1:
            raise ConfigError(f"statistics: {key} must be between 0 and 1, got {share!r}")
        shares[key] = share
    resamples = _whole(values, "resamples", default.resamples)
    if resamples < 100:
        raise ConfigError(f"statistics: resamples must be at least 100, got {resamples}")
    seed = values.get("seed", default.seed)
    if type(seed) is not int or seed < 0:
        raise ConfigError(f"statistics: seed must be a whole number from 0, got {seed!r}")
    return Statistics(
        resamples=resamples,
        min_users=_whole(values, "min-users", default.min_users),
        seed=seed,
        **shares,
    )

"""The parts of a comparison's TOML, each checked, and every mistake told in one line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrff.config import ConfigError, full_names
from mrff.config.declaration import Value
from mrff.config.names import GROUPS

Settings = dict[str, Value]

_OWN = (
    "data.dataset", "data.data-dir", "data.home", "training.seed", "run.name", "run.resume",
    "evaluation.keep-test-scores",
)  # fmt: skip


def names_of(content: Mapping[str, Any], key: str) -> list[str]:
    """A list of different names."""
    names = content.get(key, [])
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"{key} must be a list of names, got {names!r}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"{key} names {twice.pop()!r} twice")
    return list(names)


def seeds_of(seeds: Any) -> list[int]:
    """A list of different whole numbers from 0."""
    is_list = isinstance(seeds, list) and seeds
    if not is_list or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds must be a list of whole numbers from 0, got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must differ, got {seeds}")
    return list(seeds)


def whole_number(content: Mapping[str, Any], key: str, default: int) -> int:
    """A whole number of at least 1."""
    value = content.get(key, default)
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} must be a whole number of at least 1, got {value!r}")
    return value


def settings_of(values: Any, place: str) -> Settings:
    """Settings of runs, but none that the comparison itself decides."""
    if not isinstance(values, dict):
        raise ConfigError(f"{place} must be a table of settings, got {values!r}")
    try:
        named = full_names(values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    for key in named:
        if key in _OWN:
            raise ConfigError(f"{place}: {key} is set by the comparison; leave it out")
    return named


def tables_of(content: Mapping[str, Any], key: str, names: list[str]) -> dict[str, Settings]:
    """The tables ``[KEY.NAME]`` by name; ``names`` are those that may have one."""
    tables = content.get(key, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{key} must hold tables such as [{key}.{names[0]}], got {tables!r}")
    for name in tables:
        if name not in names:
            raise ConfigError(
                f"[{key}.{name}] belongs to no {key} of this comparison{_near(name, names)}"
            )
    return {name: settings_of(values, f"{key}.{name}") for name, values in tables.items()}


def split_by_dataset(
    methods: Any, datasets: list[str]
) -> tuple[Any, dict[tuple[str, str], Settings]]:
    """The tables of methods without their tables of one dataset, and those by method, dataset."""
    if not isinstance(methods, dict):
        return methods, {}
    plain: dict[str, Any] = {}
    tuned: dict[tuple[str, str], Settings] = {}
    for method, values in methods.items():
        plain[method] = values
        if not isinstance(values, dict):
            continue
        plain[method] = {
            key: v for key, v in values.items() if not isinstance(v, dict) or key in GROUPS
        }
        for dataset in values.keys() - plain[method].keys():
            place = f"method.{method}.{dataset}"
            if dataset not in datasets:
                raise ConfigError(
                    f"[{place}] belongs to no dataset of this comparison{_near(dataset, datasets)}"
                )
            tuned[method, dataset] = settings_of(values[dataset], place)
    return plain, tuned


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(names)}"


def preset_of(presets: Path, dataset: str) -> Settings:
    """A dataset's settings, from ``NAME.toml`` in that folder; none where there is no such file."""
    path = presets / f"{dataset}.toml"
    if "/" in dataset or not path.is_file():
        return {}
    try:
        values = full_names(tomllib.loads(path.read_text()))
    except ValueError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error}") from error
    values.pop("data.dataset", None)
    return settings_of(values, path.name)


def sources_of(path: Path, sources: Any, datasets: list[str]) -> dict[str, Path]:
    """Where datasets that are not prepared lie, relative to the comparison's file."""
    if not isinstance(sources, dict) or not all(isinstance(s, str) for s in sources.values()):
        raise ConfigError(f"sources must be a table of dataset = PATH, got {sources!r}")
    for name in sources:
        if name not in datasets:
            raise ConfigError(f"sources: {name} is no dataset here{_near(name, datasets)}")
    return {n: path.parent.absolute() / Path(s).expanduser() for n, s in sources.items()}

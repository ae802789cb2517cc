"""The parts of a comparison's TOML, each checked, and every mistake told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrff.config import ConfigError, full_names
from mrff.config.declaration import Value
from mrff.config.names import GROUPS
from mrff.ops.simulation import read_settings

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


def table_in(content: Mapping[str, Any], key: str, holds: str = "") -> dict[str, Any]:
    """A table; empty where there is none."""
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be a table{holds}, got {value!r}")
    return value


def settings_of(values: Any, place: str) -> Settings:
    """Settings of runs, but none that the comparison itself decides."""
    table = table_in({place: values}, place, " of settings")
    try:
        named = full_names(table)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    for key in named:
        if key in _OWN:
            raise ConfigError(f"{place}: {key} is set by the comparison; leave it out")
    return named


def tables_of(content: Mapping[str, Any], key: str, names: list[str]) -> dict[str, Settings]:
    """The tables ``[KEY.NAME]`` by name; ``names`` are those that may have one."""
    tables = table_in(content, key, f" of tables such as [{key}.{names[0]}]")
    for name in tables:
        _check_known(name, names, f"[{key}.{name}] belongs to no {key} of this comparison")
    return {name: settings_of(values, f"{key}.{name}") for name, values in tables.items()}


def split_by_dataset(
    methods: dict[str, Any], datasets: list[str]
) -> tuple[dict[str, Any], dict[tuple[str, str], Settings]]:
    """The tables of methods without their tables of one dataset, and those by method, dataset."""
    plain: dict[str, Any] = {}
    tuned: dict[tuple[str, str], Settings] = {}
    for method, values in methods.items():
        plain[method] = values
        if not isinstance(values, dict):
            continue
        inner = {k for k, v in values.items() if isinstance(v, dict) and k not in GROUPS}
        plain[method] = {key: value for key, value in values.items() if key not in inner}
        for dataset in sorted(inner):
            place = f"method.{method}.{dataset}"
            told = f"[{place}] belongs to no dataset of this comparison"
            _check_known(dataset, datasets, told)
            tuned[method, dataset] = settings_of(values[dataset], place)
    return plain, tuned


def _check_known(name: str, names: list[str], told: str) -> None:
    """Refuses a name that is none of ``names``, with the nearest of them."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise ConfigError(f"{told}; {hint}")


def preset_of(presets: Path, dataset: str, kind: str = "") -> Settings:
    """A dataset's settings, from ``NAME.toml`` in that folder; none where there is no such file.

    Args:
        kind: which of them, ``NAME-KIND.toml``, which then has to be there.

    Raises:
        ConfigError: it is not, or it cannot be read.
    """
    path = presets / f"{dataset}{kind and f'-{kind}'}.toml"
    if "/" in dataset or not path.is_file():
        if kind:
            raise ConfigError(
                f"preset={kind!r} needs {path.name} beside the datasets' settings in {presets}; "
                "write it, or leave preset out"
            )
        return {}
    values = read_settings(path, [])
    values.pop("data.dataset", None)
    return settings_of(values, path.name)


def sources_of(path: Path, content: Mapping[str, Any], datasets: list[str]) -> dict[str, Path]:
    """Where datasets that are not prepared lie, relative to the comparison's file."""
    sources = table_in(content, "sources", " of dataset = PATH")
    for name, source in sources.items():
        if not isinstance(source, str):
            raise ConfigError(f"sources must be a table of dataset = PATH, got {sources!r}")
        _check_known(name, datasets, f"sources: {name} is no dataset here")
    return {n: path.parent.absolute() / Path(s).expanduser() for n, s in sources.items()}

"""The names of settings: full names, leaves alone, and what names of earlier versions became."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from mrff.config.declaration import ConfigError, Setting, declared
from mrff.config.privacy import PrivacySettings
from mrff.config.settings import (
    DataSettings,
    EvaluationSettings,
    NetworkSettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
)


@dataclass(frozen=True)
class Groups:
    """The settings of a run, by the part that reads them."""

    data: DataSettings
    network: NetworkSettings
    training: TrainingSettings
    server: ServerSettings
    privacy: PrivacySettings
    evaluation: EvaluationSettings
    run: RunSettings


GROUPS: Mapping[str, type[Any]] = get_type_hints(Groups)
SETTINGS: Mapping[str, Setting] = {
    s.key: s for group, settings in GROUPS.items() for s in declared(group, settings)
}
"""Every setting by its full name."""

FREE_KEYS = frozenset(key for key, setting in SETTINGS.items() if setting.free)
"""What may differ between a run and its resumption."""

_BY_LEAF = {setting.leaf: key for key, setting in SETTINGS.items()}

RENAMED: Mapping[str, str] = {
    "privacy-mode": "privacy.mode",
    "privacy-unit": "privacy.unit",
    "run-name": "run.name",
    "balance-weight": "training.balance-loss-weight",
    "own-parameters": "privacy.private-training",
    "frozen-parameters": "privacy.frozen-shared",
}
DROPPED: Mapping[str, str] = {
    "trainer": "nodes train many users at once; leave it out",
    "cohort-memory-mb": "a node takes what its memory has room for; leave it out",
    "validate-beside-training": "validations always travel with training; leave it out",
    "server-epsilon": "Adam on the server has epsilon 1e-8; leave it out",
    "server-beta2": "Adam on the server has beta 2 = 0.99; leave it out",
    "clipping-quantile": "adaptive clipping aims at the median of the norms; leave it out",
    "clipping-learning-rate": "adaptive clipping moves by 0.2; leave it out",
    "noise-seed": "noise is always fresh from the system; leave it out",
}


def full_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by full name, from full names, leaves alone, or tables of a group's leaves.

    Raises:
        ConfigError: a name that no setting has, or two names of the same one.
    """
    found: dict[str, Any] = {}
    for name, value in _flat(values):
        key = _BY_LEAF.get(name, name)
        if key not in SETTINGS:
            raise ConfigError(_unknown(name))
        if key in found:
            raise ConfigError(f"{key} is set twice; leave one of them out")
        found[key] = value
    return found


def check_full_names(names: Iterable[str]) -> None:
    """Raises ConfigError for the first that is no full name, with what it should be or became."""
    for name in names:
        if name not in SETTINGS:
            raise ConfigError(_unknown(name))


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises ConfigError for the first key that is not known, with the nearest known one."""
    known = list(known)
    for name in names:
        if name not in known:
            hint = nearest(name, known, f"known keys: {', '.join(known)}")
            raise ConfigError(f"unknown configuration key {name!r}; {hint}")


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """The question whether the nearest known name is meant, if one is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def _flat(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if name in GROUPS and isinstance(value, Mapping):
            yield from ((f"{name}.{leaf}", inner) for leaf, inner in value.items())
        else:
            yield name, value


def _unknown(name: str) -> str:
    """What is wrong with a name that is no full name."""
    leaf = name.rpartition(".")[2]
    new = RENAMED.get(leaf) or _BY_LEAF.get(leaf)
    if new:
        return f"{name} is now {new}"
    if leaf in DROPPED:
        return f"{name} is no setting any more: {DROPPED[leaf]}"
    near = difflib.get_close_matches(leaf, _BY_LEAF, n=1) if "." not in name else ()
    otherwise = "`mrff settings` lists them all, `mrff settings WORD` those about a word"
    hint = nearest(_BY_LEAF[near[0]] if near else name, SETTINGS, otherwise)
    return f"unknown configuration key {name!r}; {hint}"

"""Turns flat kebab-case values into frozen dataclasses and names what is wrong with them."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

Value = bool | int | float | str
Settings = TypeVar("Settings")


class ConfigError(ValueError):
    """A run configuration that cannot be used; the message names value, limit and way out."""


def setting(
    default: Value,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with limits: ``low <= value <= high``, ``value > above``, or choices."""
    limits = {"low": low, "high": high, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def key_of(field_name: str) -> str:
    """``num_experts`` -> ``num-experts``."""
    return field_name.replace("_", "-")


def keys_of(settings: type[Any]) -> list[str]:
    """The kebab-case keys a settings class takes."""
    return [key_of(field.name) for field in dataclasses.fields(settings)]


def parse(settings: type[Settings], values: Mapping[str, Value]) -> Settings:
    """Builds ``settings`` from the keys it knows; absent keys take their defaults.

    Raises:
        ConfigError: a value of the wrong type or outside its limits.
    """
    types = get_type_hints(settings)
    chosen = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        key = key_of(field.name)
        if key in values:
            value = _typed(key, values[key], types[field.name])
            _check_limits(key, value, field.metadata)
            chosen[field.name] = value
    return settings(**chosen)


def refuse_unknown(values: Mapping[str, Value], known: list[str]) -> None:
    """Raises ConfigError for the first key that is not known, with the nearest known one."""
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown configuration key {key!r}; {hint}")


def _typed(key: str, value: Value, wanted: type) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is float and is_number:
        return float(value)
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not wanted:
        raise ConfigError(
            f"{key} must be {_TYPE_NAMES[wanted]}, got {value!r} ({type(value).__name__})"
        )
    return value


def _check_limits(key: str, value: Value, limits: Mapping[str, Any]) -> None:
    if limits.get("choices") and value not in limits["choices"]:
        raise ConfigError(f"{key} must be one of {', '.join(limits['choices'])}, got {value!r}")
    if isinstance(value, str | bool):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {value}")
    low, high, above = (limits.get(name) for name in ("low", "high", "above"))
    if above is not None and value <= above:
        upper = "" if high is None else f" and at most {high:g}"
        raise ConfigError(f"{key} must be greater than {above:g}{upper}, got {value}")
    if low is not None and high is not None and not low <= value <= high:
        raise ConfigError(f"{key} must be between {low:g} and {high:g}, got {value}")
    if low is not None and value < low:
        raise ConfigError(f"{key} must be at least {low:g}, got {value}")
    if high is not None and value > high:
        raise ConfigError(f"{key} must be at most {high:g}, got {value}")


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}

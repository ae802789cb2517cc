"""Checks one value of a run configuration against its declaration, and says what is wrong."""

from __future__ import annotations

import math

from mrff.config.declaration import ConfigError, Setting, Value

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def parsed(setting: Setting, value: Value) -> Value | None:
    """The value in code; None for the setting's word.

    Raises:
        ConfigError: a value of the wrong type or outside its limits.
    """
    if setting.limits.word and value == setting.limits.word:
        return None
    typed = _typed(setting, value)
    _check_limits(setting, typed)
    return typed


def _typed(setting: Setting, value: Value) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if setting.type is float and is_number:
        return float(value)
    if setting.type is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not setting.type or (setting.limits.word and value == ""):
        raise ConfigError(
            f"{setting.key} must be {_TYPE_NAMES[setting.type]}{_or_word(setting)}, "
            f"got {value!r} ({type(value).__name__})"
        )
    return value


def _check_limits(setting: Setting, value: Value) -> None:
    limits = setting.limits
    if limits.choices and value not in limits.choices:
        raise ConfigError(
            f"{setting.key} must be one of {', '.join(limits.choices)}, got {value!r}"
        )
    if isinstance(value, str | bool):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{setting.key} must be a finite number, got {value}")
    low, high, above = limits.low, limits.high, limits.above
    wanted = ""
    if above is not None and value <= above:
        wanted = f"greater than {above:g}" + ("" if high is None else f" and at most {high:g}")
    elif low is not None and high is not None and not low <= value <= high:
        wanted = f"between {low:g} and {high:g}"
    elif low is not None and value < low:
        wanted = f"at least {low:g}"
    elif high is not None and value > high:
        wanted = f"at most {high:g}"
    if wanted:
        raise ConfigError(f"{setting.key} must be {wanted}{_or_word(setting)}, got {value}")


def _or_word(setting: Setting) -> str:
    return f' or "{setting.limits.word}"' if setting.limits.word else ""

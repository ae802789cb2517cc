"""How a setting is declared: default, reason and limits as data, in one line of a settings class.

A declaration is the only source: the run configuration, pyproject's table, `mrff settings` and
docs/settings.md are made from it. Where a value may be left to the program or switched off, the
run configuration says so in a word (``"auto"``, ``"all"``, ``"off"``), and in code it is ``None``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

Value = bool | int | float | str
AUTO = "auto"
"""Of a fitted setting: its value follows from the data; see `mrff.config.fitting`."""
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ConfigError(ValueError):
    """A run configuration that cannot be used; the message names value, limit and way out."""


@dataclass(frozen=True)
class Limits:
    """What a setting accepts: ``low <= value <= high``, ``value > above``, choices, or a word."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    registry: str = ""  # choices are the names in it; it refuses others where it stands
    word: str = ""  # accepted besides; None in code

    def __str__(self) -> str:
        """``1 to 64, or auto``."""
        if self.choices:
            told = ", ".join(self.choices)
        elif self.registry:
            told = f"one of the {self.registry}"
        elif self.above is not None:
            told = f"above {_shown(self.above)}"
            told += "" if self.high is None else f", to {_shown(self.high)}"
        elif self.low is None:
            told = "a text" if self.word else ""
        elif self.high is None:
            told = f"from {_shown(self.low)}"
        else:
            told = f"{_shown(self.low)} to {_shown(self.high)}"
        return ", or ".join(filter(None, (told, self.word)))

    def wanted(self, value: Value) -> str:
        """What ``value`` should be instead, ``between 1 and 64``; empty if it will do."""
        if self.choices and value not in self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(value, str | bool):
            return ""
        if not math.isfinite(value):
            return "a finite number"
        low, high, above = self.low, self.high, self.above
        if (
            (above is None or value > above)
            and (low is None or value >= low)
            and (high is None or value <= high)
        ):
            return ""
        if above is not None:
            return f"greater than {above:g}" + ("" if high is None else f" and at most {high:g}")
        return f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"


def setting(
    default: Value,
    reason: str,
    limits: Limits = Limits(),
    *,
    free: bool = False,
    fitted: bool = False,
) -> Any:
    """A field of a settings class.

    Args:
        reason: one line: what it is, and why it has this default where that is not plain.
        free: may differ between a run and its resumption: it changes nothing that a round computes
            (a device does in the last bits).
        fitted: it is ``"auto"`` unless somebody says it: what the data asks for, or ``default``
            where nothing speaks for another value.
    """
    metadata = {"plain": default, "reason": reason, "limits": limits, "free": free}
    metadata |= {"fitted": fitted}
    value = None if limits.word and default == limits.word else default
    return dataclasses.field(default=value, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One declared setting."""

    group: str
    attribute: str  # in its settings class
    type: type  # int, float, bool or str, besides a word
    plain: Value  # the default where nothing is fitted, as written, a word included
    limits: Limits
    reason: str
    free: bool
    fitted: bool

    @property
    def default(self) -> Value:
        """As Flower's table has it."""
        return AUTO if self.fitted else self.plain

    @property
    def accepted(self) -> str:
        """``1 to 64, or auto``."""
        told = str(self.limits)
        if not self.fitted or self.limits.word == AUTO:
            return told
        return f"{told}, or {AUTO}" if told else f"true, false, or {AUTO}"

    def leaves_open(self, value: Value) -> bool:
        """Whether the value is the word by which the program is to decide."""
        return value == self.default and value in (self.limits.word, AUTO)

    @property
    def leaf(self) -> str:
        """``num-experts``; no other setting of any group has it."""
        return self.attribute.replace("_", "-")

    @property
    def key(self) -> str:
        """``network.num-experts``, the name in Flower's run configuration."""
        return f"{self.group}.{self.leaf}"

    def written(self, value: Value | None) -> Value:
        """The run configuration's form of a value in code."""
        return self.limits.word if value is None else value

    def parsed(self, value: Value) -> Value | None:
        """The value in code, None for the word; ConfigError for a wrong type or beyond limits."""
        word = self.limits.word
        if self.fitted and value == AUTO:
            value = self.plain
        if word and value == word:
            return None
        or_word = f' or "{word}"' if word else ""
        if self.type is float and type(value) is int:
            value = float(value)
        if self.type is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not self.type or (word and value == ""):
            raise ConfigError(
                f"{self.key} must be {_TYPE_NAMES[self.type]}{or_word}, "
                f"got {value!r} ({type(value).__name__})"
            )
        wanted = self.limits.wanted(value)
        if wanted:
            raise ConfigError(f"{self.key} must be {wanted}{or_word}, got {value!r}")
        return value


def declared(group: str, settings: type[Any]) -> list[Setting]:
    """The settings of one class, in its order."""
    types = get_type_hints(settings)
    return [
        Setting(
            group=group,
            attribute=field.name,
            type=next(iter(get_args(types[field.name])), types[field.name]),
            **field.metadata,
        )
        for field in dataclasses.fields(settings)
    ]


def _shown(limit: float) -> str:
    """Whole numbers with all their digits."""
    return f"{limit:,d}" if isinstance(limit, int) else f"{limit:g}"

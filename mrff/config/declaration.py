"""How a setting is declared: default, reason and limits as data, in one line of a settings class.

A declaration is the only source: the run configuration, pyproject's table, `mrff settings` and
docs/settings.md are made from it. Where a value may be left to the program or switched off, the
run configuration says so in a word (``"auto"``, ``"all"``, ``"off"``), and in code it is ``None``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast, get_args, get_type_hints

Value = bool | int | float | str


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
        elif self.low is not None:
            upper = self.high
            told = (
                f"from {_shown(self.low)}"
                if upper is None
                else f"{_shown(self.low)} to {_shown(upper)}"
            )
        else:
            told = "a text" if self.word else ""
        return ", or ".join(filter(None, (told, self.word)))


def setting(default: Value, reason: str, limits: Limits = Limits(), *, free: bool = False) -> Any:
    """A field of a settings class.

    Args:
        reason: one line: what it is, and why it has this default where that is not plain.
        free: may differ between a run and its resumption: it changes nothing that a round computes
            (a device does in the last bits).
    """
    metadata = {"reason": reason, "limits": limits, "free": free}
    value = None if limits.word and default == limits.word else default
    return dataclasses.field(default=value, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One declared setting."""

    group: str
    attribute: str  # in its settings class
    type: type  # int, float, bool or str, besides a word
    default: Value  # as written, a word included
    limits: Limits
    reason: str
    free: bool

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


def declared(group: str, settings: type[Any]) -> list[Setting]:
    """The settings of one class, in its order."""
    types = get_type_hints(settings)
    found = []
    for field in dataclasses.fields(settings):
        wanted: Any = types[field.name]
        limits, default = field.metadata["limits"], cast("Value | None", field.default)
        found.append(
            Setting(
                group=group,
                attribute=field.name,
                type=next(iter(get_args(wanted)), wanted),
                default=limits.word if default is None else default,
                limits=limits,
                reason=field.metadata["reason"],
                free=field.metadata["free"],
            )
        )
    return found


def _shown(limit: float) -> str:
    """Whole numbers with all their digits."""
    return f"{limit:,d}" if isinstance(limit, int) else f"{limit:g}"

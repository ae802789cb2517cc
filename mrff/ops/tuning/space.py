"""What `mrff tune` varies, by objective: few settings, those that decided on six datasets.

What was learned by hand is in docs/results.md and docs/ranking.md. Every axis holds the plain
default and what the rules of `mrff.config.fitting` may choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mrff.config.declaration import Value
from mrff.config.derived import Objective


class Suggests(Protocol):
    """The part of an Optuna trial that an axis needs."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """One of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number in the range."""
        ...


@dataclass(frozen=True)
class OneOf:
    """An axis of a few values."""

    values: tuple[Value, ...]

    def suggest(self, trial: Suggests, key: str) -> Value:
        """The trial's value."""
        return trial.suggest_categorical(key, list(self.values))

    def holds(self, value: Value) -> bool:
        """Whether the value is on the axis."""
        return value in self.values


@dataclass(frozen=True)
class Range:
    """An axis of numbers; a factor counts alike wherever it is."""

    low: float
    high: float

    def suggest(self, trial: Suggests, key: str) -> Value:
        """The trial's value, to three digits."""
        return float(f"{trial.suggest_float(key, self.low, self.high, log=True):.3g}")

    def holds(self, value: Value) -> bool:
        """Whether the value is on the axis."""
        return isinstance(value, int | float) and self.low <= value <= self.high


Axis = OneOf | Range
Space = Mapping[str, Axis]

_SHARED: dict[str, Axis] = {
    "network.dropout": OneOf((0.1, 0.3, 0.5)),
    "network.num-experts": OneOf((1, 2, 4)),
    "network.user-network-dim": OneOf(("off", 8)),
    "network.history-times": OneOf((False, True)),
    "training.sampling-rate": OneOf((0.05, 0.1, 0.2, 0.5)),
    "server.server-learning-rate": Range(0.002, 0.03),
    "server.item-bias-learning-rate-factor": Range(1.0, 60.0),
}
_LABELS: dict[str, Axis] = {
    "data.max-windows-per-user": OneOf((1, "all")),
    "training.user-weighting": OneOf(("uniform", "targets")),
    "training.private-learning-rate": Range(0.002, 0.05),
    "network.user-factors": OneOf((False, True)),
    "training.user-factors-learning-rate": Range(1.0, 60.0),
    "network.item-bias": OneOf((False, True)),
    "network.history-rates": OneOf((False, True)),
    "network.item-statistics": OneOf((False, True)),
    "network.kind-statistics": OneOf((False, True)),
    "network.closed-form-factors": OneOf(("off", 8, 16)),
    "network.time-inputs": OneOf((False, True)),
    "server.body-learning-rate-factor": OneOf((0.1, 0.3, 1.0)),
}
ITEM_SUMS = (
    "network.item-statistics",
    "network.kind-statistics",
    "network.closed-form-factors",
)


def agreeing(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values, but what items' statistics cannot go with gives way to them."""
    found = dict(values)
    if found.get("network.item-statistics"):
        found["network.item-bias"] = False
    elif "network.item-statistics" in found:
        found["network.closed-form-factors"] = "off"
        found["network.kind-statistics"] = False
    return found


SPACES: Mapping[Objective, Space] = {
    "click": {**_SHARED, **_LABELS, "network.feature-dim": OneOf(("auto", 2, 4, 8, 16))},
    "next": {
        **_SHARED,
        "network.feature-dim": OneOf(("auto", 32, 48, 64, 96)),
        "training.drawn-items": OneOf((128, 512, 1024)),
    },
    "both": {
        **_SHARED,
        **_LABELS,
        "network.feature-dim": OneOf(("auto", 16, 32, 48)),
        "training.next-weight": OneOf((0.1, 0.3, 1.0)),
    },
}

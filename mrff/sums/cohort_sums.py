"""A sum over users: all that leaves a node, and all that a server adds up.

Adding nodes is adding sums, so the result does not depend on how users are spread over nodes.
Totals are float64, which keeps the order of arrival out of the float32 result in all but the
rarest roundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantity:
    """What a number of a sum looks like, for whoever checks it.

    Args:
        shape: of the number; ``()``: a single one.
        whole: it counts something; otherwise it is a finite number of at least 0.
    """

    shape: tuple[int, ...] = ()
    whole: bool = False


@dataclass
class CohortSums:
    """Sums over some users.

    Args:
        updates: weighted changes by array name; a name that is absent is zero.
        numbers: counts (int64) and amounts (float64) by name; a name that is absent is zero.
    """

    updates: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, Array] = field(default_factory=dict)

    def __iadd__(self, other: CohortSums) -> CohortSums:
        _add(self.updates, other.updates)
        _add(self.numbers, other.numbers)
        return self

    def __add__(self, other: CohortSums) -> CohortSums:
        total = CohortSums()
        total += self
        total += other
        return total

    def zeros_like(self) -> CohortSums:
        """The same names, shapes and kinds, over nobody."""
        updates, numbers = (
            {name: np.zeros_like(values) for name, values in part.items()}
            for part in (self.updates, self.numbers)
        )
        return CohortSums(updates, numbers)

    def scaled(self, factor: float) -> CohortSums:
        """Every part times ``factor``; counts become amounts."""
        updates, numbers = (
            {name: np.asarray(values * factor) for name, values in part.items()}
            for part in (self.updates, self.numbers)
        )
        return CohortSums(updates, numbers)

    def number(self, name: str) -> Any:
        """A single number; 0 where it is absent."""
        return self.numbers[name].item() if name in self.numbers else 0

    def under(self, prefix: str) -> CohortSums:
        """The numbers whose names begin with ``prefix``, without it."""
        size = len(prefix)
        named = {n[size:]: v for n, v in self.numbers.items() if n.startswith(prefix)}
        return CohortSums({}, named)

    def prefixed(self, prefix: str) -> CohortSums:
        """The inverse of `under`."""
        return CohortSums({}, {prefix + name: values for name, values in self.numbers.items()})


def zeros_of(quantities: Mapping[str, Quantity]) -> CohortSums:
    """The numbers that are asked for, over nobody."""
    kinds = {name: np.int64 if q.whole else np.float64 for name, q in quantities.items()}
    return CohortSums({}, {n: np.zeros(q.shape, kinds[n]) for n, q in quantities.items()})


def as_numbers(values: Mapping[str, Any]) -> dict[str, Array]:
    """Plain numbers and arrays as a sum holds them: int64 or float64."""
    return {name: _widened(np.asarray(value)) for name, value in values.items()}


def _add(totals: dict[str, Array], values: Mapping[str, Array]) -> None:
    for name, value in values.items():
        if name not in totals:
            totals[name] = _widened(value)
        elif np.can_cast(value.dtype, totals[name].dtype, "same_kind"):
            totals[name] += value
        else:  # a count to which an amount is added
            totals[name] = np.asarray(totals[name] + value)


def _widened(array: Array) -> Array:
    """A copy in 64 bits."""
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)

"""Sums as whole numbers that wrap around: what masks are added to.

Numbers (counts, losses, weights, histograms) are exact: 64 bits, amounts as multiples of 2^-24.
Arrays are rounded to multiples of a step. Step and bits of a value are public and the same for all
nodes; what is larger than the bits allow is cut and counted, so that no sum ever wraps unnoticed.
Arrays that are whole numbers already go in as they are: one that was cut would have lost its noise.
They may wrap; whoever asks for them sees to it that their sum fits into the ring.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.sums import BadReplyError, CohortSums, Expected, Quantity, require
from mrff.wire.aggregation.secure.primitives import SecureError

RINGS: Mapping[int, type[np.unsignedinteger]] = {16: np.uint16, 32: np.uint32, 64: np.uint64}
AMOUNT = 2.0**-24  # what amounts are multiples of
SATURATED, PARTIES = "secure.saturated", "secure.parties"
_LARGEST = 2.0**52  # of an exact number from one node: the sum of 2,000 nodes stays exact


@dataclass(frozen=True)
class SumLayout:
    """Where everything lies in the two vectors of a sum; travels with the request.

    Args:
        numbers: by name; exact.
        arrays: shapes by name; rounded.
        steps: by array, what its values are multiples of.
        whole: arrays that are whole numbers on nodes, in steps.
        ring_bits: of an array's element; sums wrap around at 2^bits.
        value_bits: of what one node adds to an element, its sign included.
    """

    numbers: Mapping[str, Quantity]
    arrays: Mapping[str, tuple[int, ...]]
    steps: Mapping[str, float] = field(default_factory=dict)
    ring_bits: int = 32
    value_bits: int = 24
    whole: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, expected: Expected, ranges: Mapping[str, float], *, ring_bits: int, value_bits: int
    ) -> SumLayout:
        """Of what a phase asks for; ``ranges`` are the largest values of one node, by array."""
        top = 2 ** (value_bits - 1) - 1
        steps = {n: expected.steps.get(n, ranges[n] / top) for n in expected.updates}
        own = {PARTIES: Quantity(whole=True)}
        if expected.updates:
            own[SATURATED] = Quantity((len(expected.updates),), whole=True)
        numbers = {**expected.numbers, **own}
        whole = frozenset(expected.steps)
        return cls(numbers, expected.updates, steps, ring_bits, value_bits, whole)

    def check_nodes(self, nodes: int) -> None:
        """Whether the sum of so many nodes fits.

        Raises:
            SecureError: it could wrap around.
        """
        needed = self.value_bits + math.ceil(math.log2(max(nodes, 1)))
        if self.arrays.keys() - self.whole and needed > self.ring_bits:
            raise SecureError(
                f"privacy.secure-value-bits={self.value_bits} and {nodes} nodes need {needed} "
                f"bits, privacy.secure-ring-bits={self.ring_bits} are too few: choose a larger "
                "ring or fewer value bits"
            )

    @property
    def top(self) -> int:
        """The largest whole number that one node adds to an element of an array."""
        return 2 ** (self.value_bits - 1) - 1

    def zeros(self) -> Vectors:
        """The two vectors of nobody."""
        numbers = sum(math.prod(q.shape) for q in self.numbers.values())
        arrays = sum(math.prod(shape) for shape in self.arrays.values())
        return Vectors(np.zeros(numbers, np.uint64), np.zeros(arrays, RINGS[self.ring_bits]))

    def encoded(self, sums: CohortSums) -> Vectors:
        """One node's sums.

        Raises:
            SecureError: a name or kind that was not asked for, or an exact number too large for its
                bits.
        """
        _nothing_else(sums.numbers, self.numbers)
        _nothing_else(sums.updates, self.arrays)
        vectors, saturated, first = self.zeros(), [], 0
        for name, shape in sorted(self.arrays.items()):
            size = math.prod(shape)
            part = vectors.arrays[first : first + size]
            first += size
            if name not in sums.updates:
                saturated.append(0)
                continue
            integers, cut = self._integers(name, sums.updates[name])
            saturated.append(cut)
            part[:] = integers.astype(part.dtype)  # two's complement: the low bits
        own: dict[str, Any] = {PARTIES: 1, SATURATED: np.array(saturated, np.int64)}
        numbers = {**sums.numbers, **{n: v for n, v in own.items() if n in self.numbers}}
        first = 0
        for name, quantity in sorted(self.numbers.items()):
            size = math.prod(quantity.shape)
            if name in numbers:
                vectors.numbers[first : first + size] = _exact(name, numbers[name], quantity)
            first += size
        return vectors

    def _integers(self, name: str, values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
        """An array as it goes into the ring, and how many of its values were cut."""
        if (values.dtype.kind == "i") != (name in self.whole):
            raise SecureError(f"{name} has {values.dtype} numbers, another kind is asked for")
        if name in self.whole:
            return values.ravel(), 0
        scaled = np.rint(np.asarray(values, np.float64).ravel() / self.steps[name])
        cut = int((np.abs(scaled) > self.top).sum())
        return np.clip(scaled, -self.top, self.top).astype(np.int64), cut

    def decoded(self, vectors: Vectors, parties: int) -> CohortSums:
        """The sum over ``parties`` nodes.

        Raises:
            BadReplyError: it is not what so many nodes can have added up to.
        """
        numbers, first = {}, 0
        for name, quantity in sorted(self.numbers.items()):
            size = math.prod(quantity.shape)
            signed = vectors.numbers[first : first + size].astype(np.int64)
            first += size
            value: NDArray[Any] = signed if quantity.whole else signed * AMOUNT
            require(bool((signed >= 0).all()), f"the secure sum of {name} is below 0")
            numbers[name] = value.reshape(quantity.shape)
        found = int(numbers.pop(PARTIES))
        require(found == parties, f"the secure sum counts {found} nodes, {parties} were added up")
        arrays, first = {}, 0
        signed_type = np.dtype(f"int{self.ring_bits}")
        for name, shape in sorted(self.arrays.items()):
            size = math.prod(shape)
            part = vectors.arrays[first : first + size].view(signed_type)
            first += size
            largest = np.abs(part.astype(np.float64)).max(initial=0.0)
            if name not in self.whole and largest > parties * float(self.top):
                raise BadReplyError(f"the secure sum of {name} is larger than its nodes can be")
            arrays[name] = (part.astype(np.float64) * self.steps[name]).reshape(shape)
        return CohortSums(arrays, numbers)

    def packed(self) -> str:
        """As it travels."""
        numbers = {name: [list(q.shape), q.whole] for name, q in self.numbers.items()}
        arrays = {name: [list(shape), self.steps[name]] for name, shape in self.arrays.items()}
        bits = self.ring_bits, self.value_bits
        return json.dumps([numbers, arrays, *bits, sorted(self.whole)], sort_keys=True)

    @classmethod
    def unpacked(cls, text: str) -> SumLayout:
        """The inverse of `packed`.

        Raises:
            SecureError: it is no layout, or one whose sum could wrap around.
        """
        try:
            numbers, arrays, ring_bits, value_bits, whole = json.loads(text)
            layout = cls(
                {n: Quantity(tuple(shape), whole) for n, (shape, whole) in numbers.items()},
                {n: tuple(shape) for n, (shape, _) in arrays.items()},
                {n: float(step) for n, (_, step) in arrays.items()},
                ring_bits,
                value_bits,
                frozenset(whole),
            )
            known = ring_bits in RINGS and 2 <= value_bits <= min(ring_bits, 53)
            positive = all(math.isfinite(s) and s > 0 for s in layout.steps.values())
        except (ValueError, TypeError, AttributeError) as error:
            raise SecureError(f"the layout of the sum cannot be read: {error}") from error
        if not (known and positive):
            raise SecureError(f"a sum with {value_bits} of {ring_bits} bits cannot be used")
        return layout


@dataclass
class Vectors:
    """What travels: exact numbers, and arrays in the ring."""

    numbers: NDArray[np.uint64]
    arrays: NDArray[np.unsignedinteger]

    def __iadd__(self, other: Vectors) -> Vectors:
        self.numbers += other.numbers
        self.arrays += other.arrays
        return self


def _exact(name: str, value: Any, quantity: Quantity) -> NDArray[np.uint64]:
    values = np.asarray(value).ravel()
    if not quantity.whole:
        values = np.rint(np.asarray(values, np.float64) / AMOUNT)
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > _LARGEST:
        raise SecureError(f"{name} is too large, or no number, for an exact secure sum")
    return values.astype(np.int64).astype(np.uint64)


def _nothing_else(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    extra = found.keys() - wanted.keys()
    if extra:
        raise SecureError(f"{min(extra)!r} has no place in this sum: do versions differ?")

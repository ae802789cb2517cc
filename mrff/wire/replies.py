"""What a node answers: sums over its users, checked before they count.

A node may be broken, outdated or hostile: a reply that is not exactly what was asked for is
rejected as a whole with a reason, and the round goes on with the others. A reply can still lie
within these bounds; they keep out what would corrupt the arithmetic, not a clever poisoner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import MetricRecord, RecordDict
from numpy.typing import NDArray

from mrff.sums import BadReplyError, CohortSums, Expected, Quantity, require
from mrff.wire.packing import FORMAT
from mrff.wire.records import arrays_in, packed_record, rounded_record
from mrff.wire.rounding import Rounding

HEADER = 1024  # bytes of an array's name, type and shape, generously


@dataclass(frozen=True)
class Reply:
    """A node's sums in answer to the request of ``round``."""

    round: int
    sums: CohortSums

    def content(self, rounding: Rounding | None = None, seed: int = 0) -> RecordDict:
        """The records that travel; without arrays if there are none.

        Args:
            rounding: of the arrays, with draws that depend on ``seed``; numbers are exact.
        """
        numbers = {n: _plain(value) for n, value in self.sums.numbers.items()}
        content = RecordDict({"numbers": MetricRecord({"round": self.round, **numbers})})
        if self.sums.updates:
            arrays = {n: np.asarray(a, dtype=np.float32) for n, a in self.sums.updates.items()}
            content["updates"] = (
                rounded_record(arrays, rounding, seed) if rounding else packed_record(arrays)
            )
        return content

    @classmethod
    def read(
        cls, content: RecordDict, server_round: int, expected: Expected, wanted: str = FORMAT
    ) -> Reply:
        """The inverse of `content`, for the server.

        Args:
            wanted: how arrays have to come.

        Raises:
            BadReplyError: it is not what ``server_round`` asked for.
        """
        extra = content.keys() - {"numbers", "updates"}
        require(not extra, f"the record {min(extra, default='')!r} was not expected")
        record = content.get("numbers")
        if not isinstance(record, MetricRecord):
            raise BadReplyError("the record 'numbers' is missing")
        found = _number("round", record.get("round"), Quantity(whole=True)).item()
        require(found == server_round, f"it answers round {found}, asked was {server_round}")
        unknown = record.keys() - expected.numbers.keys() - {"round"}
        require(not unknown, f"the number {min(unknown, default='')!r} was not expected")
        numbers = {n: _number(n, record.get(n), q) for n, q in expected.numbers.items()}
        updates = arrays_in(content, "updates", wanted=(wanted,), most=largest_reply(expected))
        _check_arrays(updates, expected)
        return cls(server_round, CohortSums(dict(updates), numbers))


def largest_reply(expected: Expected) -> int:
    """Bytes that no honest reply exceeds: every array in double precision, the longest numbers."""
    arrays = sum(8 * math.prod(shape) + HEADER for shape in expected.updates.values())
    numbers = sum(math.prod(quantity.shape) for quantity in expected.numbers.values())
    return arrays + 10 * (numbers + 100)


def _plain(value: NDArray[Any]) -> Any:
    return value.ravel().tolist() if value.ndim else value.item()


def _number(name: str, value: Any, quantity: Quantity) -> NDArray[Any]:
    """A number or list of them as the array it stands for."""
    if value is None:
        raise BadReplyError(f"the number {name} is missing")
    if not quantity.shape:
        _check_single(name, value, quantity)
        return np.array(value, dtype=np.int64 if quantity.whole else np.float64)
    size = math.prod(quantity.shape)
    if not isinstance(value, list) or len(value) != size:
        found = len(value) if isinstance(value, list) else "no list"
        raise BadReplyError(f"{name} must hold {size} numbers, got {found}")
    values = np.array(value or np.zeros(0, np.int64))
    if quantity.whole:
        whole = values.dtype == np.int64 and bool(((values >= 0) & (values < 2**53)).all())
        require(whole, f"{name} must hold whole numbers of at least 0")
    else:
        values = values.astype(np.float64)
        fine = bool(np.isfinite(values).all()) and not bool((values < 0).any())
        require(fine, f"{name} must hold finite numbers of at least 0")
    return values.reshape(quantity.shape)


def _check_single(name: str, value: Any, quantity: Quantity) -> None:
    if quantity.whole:
        if not isinstance(value, int) or not 0 <= value < 2**53:
            raise BadReplyError(f"{name} must be a whole number of at least 0, got {value!r}")
    elif not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadReplyError(f"{name} must be a finite number of at least 0, got {value!r}")


def _check_arrays(updates: dict[str, NDArray[Any]], expected: Expected) -> None:
    """Wanted arrays only, float32 and finite."""
    missing = expected.updates.keys() - expected.optional - updates.keys()
    extra = updates.keys() - expected.updates.keys()
    require(not missing, f"updates lacks the array {min(missing, default='')}")
    require(not extra, f"updates has the array {min(extra, default='')}, which was not expected")
    for name, array in updates.items():
        wanted = expected.updates[name]
        require(array.dtype == np.float32, f"array {name} must be float32, got {array.dtype}")
        require(array.shape == wanted, f"array {name} must have shape {wanted}, got {array.shape}")
        require(bool(np.isfinite(array).all()), f"array {name} holds non-finite values")

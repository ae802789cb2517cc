"""Arrays and numbers as Flower's records, and what they weigh."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray

from mrff.sums import BadReplyError
from mrff.wire.packing import FORMAT, PACKED, pack, unpack
from mrff.wire.rounding import MOST, ROUNDINGS, Rounding

Arrays = dict[str, NDArray[np.float32]]


def array_record(arrays: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Arrays as Flower's strategies have them, by name."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: ArrayRecord) -> Arrays:
    """The inverse of `array_record`."""
    return {name: array.numpy() for name, array in record.items()}


def packed_record(arrays: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Arrays as they travel: all of them in one (`mrff.wire.packing`)."""
    return record_of_block(pack(arrays), FORMAT)


def rounded_record(
    arrays: Mapping[str, NDArray[np.float32]], rounding: Rounding, seed: int
) -> ArrayRecord:
    """The same where they may be rounded."""
    return record_of_block(rounding.pack(arrays, seed), rounding.format)


def record_of_block(block: bytes, format_: str) -> ArrayRecord:
    """Bytes that are to be read as ``format_`` says."""
    return ArrayRecord({PACKED: Array("uint8", (len(block),), format_, block)})


def packed_in(record: object) -> Array | None:
    """The one block of a record, and how to read it; None: the record is something else."""
    if not isinstance(record, ArrayRecord) or record.keys() != {PACKED}:
        return None
    return record[PACKED]


def arrays_in(
    content: RecordDict,
    key: str,
    *,
    required: bool = False,
    wanted: Collection[str] = (FORMAT,),
    most: int = MOST,
) -> Arrays:
    """The arrays packed into the record ``key``; none if it is missing.

    Args:
        wanted: the formats that are accepted.
        most: bytes that rounded arrays may unpack to.

    Raises:
        BadReplyError: it holds anything else, or is missing though it is ``required``.
    """
    record = content.get(key)
    if record is None and not required:
        return {}
    packed = packed_in(record)
    if packed is None:
        raise BadReplyError(f"the record {key!r} must hold the packed array {PACKED!r} alone")
    if packed.stype not in wanted:
        formats = " or ".join(wanted)
        raise BadReplyError(
            f"the record {key!r} comes as {packed.stype[:40]}, it has to come as {formats}"
        )
    try:
        if packed.stype == FORMAT:
            return unpack(packed.data)
        return ROUNDINGS[packed.stype].unpack(packed.data, most)
    except ValueError as error:
        raise BadReplyError(f"the record {key!r} cannot be read: {error}") from error


def content_bytes(content: RecordDict) -> int:
    """Bytes of arrays, numbers and texts as Flower encodes them, without keys and envelopes."""
    total = 0
    for record in content.values():
        for value in record.values():
            total += len(value.data) if isinstance(value, Array) else _value_bytes(value)
    return total


def _value_bytes(value: object) -> int:
    if isinstance(value, list):
        if value and all(type(item) is int for item in value):
            return _varint_bytes(np.array(value, dtype=np.int64))
        return sum(_value_bytes(item) for item in value)
    if isinstance(value, str | bytes):
        return len(value.encode()) if isinstance(value, str) else len(value)
    return _varint_bytes(np.array([value])) if type(value) is int else 8


def _varint_bytes(values: NDArray[np.int64]) -> int:
    """Protobuf's sint64: seven bits of the number and its sign per byte."""
    magnitudes = np.abs(values)
    longer = sum(int((magnitudes >> (7 * size - 1) > 0).sum()) for size in range(1, 9))
    return len(values) + longer

"""Requests to nodes, and what messages weigh."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from mrff_model.packing import FORMAT, PACKED, pack
from strategies.aggregation import Arrays
from strategies.replies import Expected
from strategies.state import TrainingState

HEADER = 1024  # bytes of an array's name, type and shape, generously
EXPIRY_SLACK = 60.0  # seconds; the clocks of server and nodes may differ a little


def array_record(arrays: Arrays) -> ArrayRecord:
    """Arrays as Flower's strategies have them, by name."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def packed_record(arrays: Arrays) -> ArrayRecord:
    """Arrays as they travel: all of them in one (`mrff_model.packing`)."""
    block = pack(arrays)
    return ArrayRecord({PACKED: Array("uint8", (len(block),), FORMAT, block)})


def arrays_of(record: ArrayRecord) -> Arrays:
    """The inverse of `array_record`."""
    return {name: array.numpy() for name, array in record.items()}


def round_record(
    config: ConfigRecord, state: TrainingState, server_round: int, *, split: str = ""
) -> ConfigRecord:
    """The run's settings in ``config`` with the facts of a round; ``split`` for evaluation only."""
    record = ConfigRecord(dict(config))
    record["round"] = server_round
    record["epoch-starts"] = state.epoch_starts
    record["checkpoint-round"] = state.checkpoint_round
    record["best-round"] = state.best_round
    record["loads"] = state.loads
    if split:
        record["split"] = split
    return record


def model_record(public: Arrays, group: Arrays, record: ConfigRecord) -> RecordDict:
    """The content of a request: a model, and what to do with it (`round_record`)."""
    return RecordDict(
        {"public": packed_record(public), "group": packed_record(group), "round": record}
    )


def requests(
    content: RecordDict, message_type: str, nodes: Iterable[int], *, server_round: int, ttl: float
) -> list[Message]:
    """One message per node, all sharing ``content``; a list, since grids walk it more than once.

    Nodes drop a message ``ttl`` seconds after now: nobody trains for a phase that is over.
    """
    return [
        Message(
            content,
            dst_node_id=node,
            message_type=message_type,
            group_id=str(server_round),
            ttl=ttl + EXPIRY_SLACK,
        )
        for node in sorted(nodes)
    ]


def again(message: Message, waited: float) -> Message:
    """The same request as a new message, ``waited`` seconds later; both expire together."""
    about = message.metadata
    return Message(
        message.content,
        dst_node_id=about.dst_node_id,
        message_type=about.message_type,
        group_id=about.group_id,
        ttl=about.ttl - waited,
    )


def largest_reply(expected: Expected, bins: int) -> int:
    """Bytes that no honest reply exceeds: every array in double precision, the longest numbers."""
    shapes = [*expected.public.values(), *expected.group.values()]
    arrays = sum(8 * math.prod(shape) + HEADER for shape in shapes)
    numbers = 2 * bins + 4 * expected.num_layers * expected.num_experts + 100
    return arrays + 10 * numbers


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

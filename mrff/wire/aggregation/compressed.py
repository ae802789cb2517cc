"""Aggregation ``compressed``: as ``plain``, with arrays rounded at random to a few bits both ways.

Down, the server sends how the model has changed since the last message, rounded once for all: nodes
and server have the same copy of it, and begin every round with that. What rounding has left out is
part of the next change (error feedback: Seide et al. 2014; Tang et al., "DoubleSqueeze", 2019), so
copy and model stay together. The server moves its model as it is, by what training changed of the
copy. Up, sums are rounded as they are. Numbers, arrays that no round moves, and what a phase does
not declare ``roundable`` travel exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import ConfigRecord, Message, RecordDict

from mrff.config import RunConfig
from mrff.wire.aggregation.base import Asked, ModelCopy, NodeSide, Send
from mrff.wire.aggregation.held import Part, moved
from mrff.wire.aggregation.plain import PlainNode, PlainSums
from mrff.wire.packing import pack
from mrff.wire.records import Arrays, arrays_in, packed_record, rounded_record
from mrff.wire.replies import Reply
from mrff.wire.requests import MODEL, RequestError
from mrff.wire.rounding import ROUNDINGS, Rounding

ANSWER = "answer"  # the record of a request that says how arrays of the reply have to come
WIDTHS: Mapping[str, Rounding] = {"8-bit": Rounding(8), "4-bit": Rounding(4)}
"""By ``server.compression``."""


class CompressedAggregation:
    """See `Aggregation`."""

    def server(self, config: RunConfig) -> CompressedSums:
        return CompressedSums(WIDTHS[config.server.compression], config.training.seed)

    def client(self, node: NodeSide) -> CompressedNode:
        return CompressedNode(node)


class CompressedSums(PlainSums):
    """See `ServerSums`."""

    def __init__(self, rounding: Rounding, seed: int) -> None:
        super().__init__()
        self._rounding, self._seed = rounding, seed
        self._part = Part(MODEL, b"")  # `copy` as it was sent last

    def exchange(self, send: Send, messages: list[Message], asked: Asked) -> Iterable[Message]:
        if not (asked.roundable and messages):
            return super().exchange(send, messages, asked)
        content = RecordDict(dict(messages[0].content))
        model = arrays_in(content, "public") | arrays_in(content, "group")
        content["public"] = content["group"] = packed_record({})
        content[ANSWER] = ConfigRecord({"format": self._rounding.format})
        for message in messages:
            message.content = content
        return self.send_parts(send, messages, [self._part_of(model)])

    def format_of(self, asked: Asked) -> str:
        return self._rounding.format if asked.roundable else super().format_of(asked)

    def _part_of(self, model: Arrays) -> Part:
        """What nodes have to have now; the same for the same model, whenever it is sent again."""
        before, digest = self.copy, Part(MODEL, pack(model)).digest
        if before.of and not self._part.block:  # a run that is taken up again
            self._part = Part(MODEL, pack(before.arrays))
        if before.of == digest:
            return self._part
        if not before.of:
            self._part = Part(MODEL, pack(model))
            self.copy = ModelCopy(model, digest)
            return self._part
        change = {name: array - before.arrays[name] for name, array in model.items()}
        delta = rounded_record(change, self._rounding, self._seed)
        after = moved(before.arrays, arrays_in(RecordDict({MODEL: delta}), MODEL, wanted=ROUNDINGS))
        self._part = Part(MODEL, pack(after), self._part.digest, delta)
        self.copy = ModelCopy(after, digest)
        return self._part


class CompressedNode(PlainNode):
    """See `ClientSums`."""

    def answer(self, content: RecordDict, reply: Reply) -> RecordDict:
        """Rounded where the request says so."""
        asked = content.get(ANSWER)
        if not isinstance(asked, ConfigRecord):
            return reply.content()
        rounding = ROUNDINGS.get(str(asked.get("format")))
        if rounding is None:
            raise RequestError(f"arrays cannot be rounded as {asked.get('format')!r}")
        return reply.content(rounding, self.node.config.training.seed)

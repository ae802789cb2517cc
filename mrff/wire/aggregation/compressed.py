"""Aggregation ``compressed``: as ``plain``, with arrays rounded at random to a few bits both ways.

The server rounds a model once, so all nodes begin a round with the same one, and updates are what
training changed of that one. It keeps its own model as it is and moves that ("preserved central
model": Philippenko and Dieuleveut, NeurIPS 2021), so roundings of models do not add up. Numbers,
fixed arrays, and what a phase does not declare ``roundable`` travel exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Message, RecordDict

from mrff.config import RunConfig
from mrff.wire.aggregation.base import Asked, NodeSide, Send
from mrff.wire.aggregation.plain import PlainNode, PlainSums
from mrff.wire.records import arrays_in, packed_in, rounded_record
from mrff.wire.replies import Reply
from mrff.wire.rounding import ROUNDINGS, Rounding

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

    def exchange(self, send: Send, messages: list[Message], asked: Asked) -> Iterable[Message]:
        if asked.roundable and messages:
            content = RecordDict(dict(messages[0].content))
            for part in ("public", "group"):
                arrays = arrays_in(content, part)
                content[part] = rounded_record(arrays, self._rounding, self._seed)
            for message in messages:
                message.content = content
        return super().exchange(send, messages, asked)

    def format_of(self, asked: Asked) -> str:
        return self._rounding.format if asked.roundable else super().format_of(asked)


class CompressedNode(PlainNode):
    """See `ClientSums`."""

    def answer(self, content: RecordDict, reply: Reply) -> RecordDict:
        """Rounded where the model came rounded."""
        model = packed_in(content.get("public"))
        rounding = None if model is None else ROUNDINGS.get(model.stype)
        return reply.content(rounding, self.node.config.training.seed)

"""Aggregation ``plain``: the server sees every node's sums.

Every reply is added as it arrives and dropped; memory is one accumulator per array, whatever the
number of nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message, RecordDict

from mrff.config import RunConfig
from mrff.sums import BadReplyError, CohortSums
from mrff.wire.aggregation.base import (
    Asked,
    Exchanged,
    ModelCopy,
    NodeSide,
    RoundFailedError,
    Send,
    reason_of,
    reasons_of,
)
from mrff.wire.aggregation.held import HeldArrays, Holders, LacksError, Part
from mrff.wire.packing import FORMAT
from mrff.wire.records import content_bytes, packed_in
from mrff.wire.replies import Reply, largest_reply
from mrff.wire.requests import FIXED, Request
from mrff.wire.traffic import Rejection, Traffic


class PlainAggregation:
    """See `Aggregation`."""

    def server(self, config: RunConfig) -> PlainSums:
        return PlainSums()

    def client(self, node: NodeSide) -> PlainNode:
        return PlainNode(node)


class PlainSums:
    """See `ServerSums`."""

    def __init__(self) -> None:
        self.copy, self._holders = ModelCopy(), Holders()

    def exchange(self, send: Send, messages: list[Message], asked: Asked) -> Iterable[Message]:
        return self.send_parts(send, messages, [])

    def send_parts(
        self, send: Send, messages: list[Message], parts: list[Part]
    ) -> Iterable[Message]:
        """The messages with these parts and their fixed arrays, to each node what it lacks.

        All messages share one content.
        """
        content = messages[0].content if messages else RecordDict()
        fixed = packed_in(content.get(FIXED))
        if fixed is not None:
            parts = [Part(FIXED, fixed.data), *parts]
            del content[FIXED]
        return self._holders.exchange(send, messages, parts)

    def format_of(self, asked: Asked) -> str:
        """How the arrays of replies have to come."""
        return FORMAT

    def collect(self, replies: Iterable[Message], asked: Asked) -> tuple[CohortSums, Traffic]:
        began, sums, traffic = time.monotonic(), CohortSums(), Traffic()
        exchange = replies if isinstance(replies, Exchanged) else None
        for message in replies:
            traffic.sent += 1
            node = exchange.node_of(message) if exchange else message.metadata.src_node_id
            try:
                sums += self._counted(message, asked, traffic)
                traffic.replies += 1
            except BadReplyError as error:
                traffic.rejected.append(Rejection(node, str(error)))
        if exchange:
            traffic.sent, traffic.missing = exchange.sent, exchange.missing
        traffic.seconds = time.monotonic() - began
        if not traffic.replies or traffic.replies < asked.min_fraction * traffic.sent:
            raise RoundFailedError(_too_few(traffic, asked))
        return sums, traffic

    def _counted(self, message: Message, asked: Asked, traffic: Traffic) -> CohortSums:
        """A reply's sums, or BadReplyError before anything has changed."""
        if message.has_error():
            raise BadReplyError(reason_of(message))
        size, most = content_bytes(message.content), largest_reply(asked.expected)
        traffic.bytes_up += size
        if size > most:
            raise BadReplyError(f"it has {size} bytes, no honest one more than {most}")
        format_ = self.format_of(asked)
        sums = Reply.read(message.content, asked.round, asked.expected, format_).sums
        asked.check(sums)
        return sums


class PlainNode:
    """See `ClientSums`."""

    def __init__(self, node: NodeSide) -> None:
        self.node, self._held = node, HeldArrays(node.shared_folder)

    def received(self, request: Request, content: RecordDict) -> Request:
        return request.with_arrays(self._held.arrays_of(content))

    def submit(self, content: RecordDict, work: Callable[[int], Reply]) -> RecordDict:
        try:
            return self.answer(content, work(1))
        except LacksError as lacks:
            return lacks.content

    def answer(self, content: RecordDict, reply: Reply) -> RecordDict:
        """The reply to ``content`` as it travels."""
        return reply.content()


def _too_few(traffic: Traffic, asked: Asked) -> str:
    text = (
        f"{asked.phase}: {traffic.replies} of {traffic.sent} nodes gave a reply that counts, "
        f"too few for min-reply-fraction={asked.min_fraction:g} "
        f"({len(traffic.missing)} missing, {len(traffic.rejected)} rejected)"
    )
    return "; ".join([text, *reasons_of(traffic)])

"""Takes in the replies of a phase: reads each as it arrives, notes what did not count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message, RecordDict

from strategies.messages import content_bytes
from strategies.replies import BadReplyError
from strategies.reports import Rejection, Traffic
from strategies.window import Exchange


class RoundFailedError(RuntimeError):
    """A round or an evaluation that cannot count; the model is as it was before."""


def receive(
    replies: Iterable[Message],
    read: Callable[[RecordDict], None],
    *,
    phase: str,
    min_fraction: float,
    most_bytes: int,
) -> Traffic:
    """Reads every reply once and says who answered.

    Args:
        replies: an `Exchange`, or messages at hand.
        read: takes a reply in, or raises BadReplyError before it has changed anything.
        phase: its name, for the error.
        most_bytes: a longer reply is rejected before any array in it is decoded.
        min_fraction: share of the nodes asked whose replies must count; at least one must.

    Raises:
        RoundFailedError: fewer replies count.
    """
    began = time.monotonic()
    traffic = Traffic()
    exchange = replies if isinstance(replies, Exchange) else None
    for message in replies:
        traffic.sent += 1
        node = exchange.node_of(message) if exchange else message.metadata.src_node_id
        try:
            if message.has_error():
                raise BadReplyError(_one_line(message.error.reason or "error without a reason"))
            size = content_bytes(message.content)
            traffic.bytes_up += size
            if size > most_bytes:
                raise BadReplyError(f"it has {size} bytes, no honest one more than {most_bytes}")
            read(message.content)
            traffic.replies += 1
        except BadReplyError as error:
            traffic.rejected.append(Rejection(node, str(error)))
    if exchange:
        traffic.sent, traffic.missing = exchange.sent, exchange.missing
    traffic.seconds = time.monotonic() - began
    if not traffic.replies or traffic.replies < min_fraction * traffic.sent:
        raise RoundFailedError(_too_few(traffic, phase, min_fraction))
    return traffic


def _too_few(traffic: Traffic, phase: str, min_fraction: float) -> str:
    text = (
        f"{phase}: {traffic.replies} of {traffic.sent} nodes gave a reply that counts, "
        f"too few for min-reply-fraction={min_fraction:g} "
        f"({len(traffic.missing)} missing, {len(traffic.rejected)} rejected)"
    )
    reasons = [f"node {rejection.node}: {rejection.reason}" for rejection in traffic.rejected[:3]]
    return "; ".join([text, *reasons])


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:300] + "..."

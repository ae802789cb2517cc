"""Sends messages in a window and hands out replies as they arrive.

Flower's simulation looks through all stored messages once per node, so that pushing everything at
once costs time quadratic in the nodes: 1,800 messages need 35 to 56 s, in a window of 25 to 50
about 15 s. Handing out replies one by one keeps the server's memory independent of their number.
A node that connected anew meanwhile is asked once more, since its message may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from logging import getLogger

from flwr.app import Message
from flwr.serverapp import Grid

from mrff.wire.requests import Request
from strategies.reconnections import Reconnections

SHORTEST_PAUSE = 0.01  # seconds between two looks for replies
LONGEST_PAUSE = 1.0
PAUSE_SHARE = 0.05  # of the time waited so far: polling adds at most 5 % to it
EXPIRY_SLACK = 60.0  # seconds; the clocks of server and nodes may differ a little
log = getLogger("flwr")


def messages_for(
    request: Request, message_type: str, nodes: Iterable[int], *, ttl: float
) -> list[Message]:
    """One message per node, all sharing one content; a list, since grids walk it more than once.

    Nodes drop a message ``ttl`` seconds after now: nobody trains for a phase that is over.
    """
    content, group_id = request.content(), str(request.facts.round)
    return [
        Message(content, node, message_type, group_id=group_id, ttl=ttl + EXPIRY_SLACK)
        for node in sorted(nodes)
    ]


class Exchange:
    """One phase: messages out, replies in, each node's answer at most once.

    Iterate over it once. Afterwards `missing` names the nodes that gave no reply in time; a reply
    that comes later is never looked at.

    Args:
        messages: a list, because Flower's deployed grid walks it more than once.
        window: most messages outstanding at once.
        timeout: seconds for the whole phase.
    """

    def __init__(
        self,
        grid: Grid,
        messages: Sequence[Message],
        *,
        window: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.sent = len(messages)
        self.missing: list[int] = []
        self._grid = grid
        self._messages = messages
        self._window = window
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._node_by_message: dict[str, int] = {}
        self._asked_again: set[int] = set()
        self._begun = False

    def node_of(self, reply: Message) -> int:
        """The node that was asked; an error reply made by the SuperLink carries another source."""
        asked = self._node_by_message.get(reply.metadata.reply_to_message_id)
        return reply.metadata.src_node_id if asked is None else asked

    def __iter__(self) -> Iterator[Message]:
        """Yields replies, error replies included, in the order of their arrival.

        Raises:
            RuntimeError: the second time: all nodes would be asked again.
        """
        if self._begun:
            raise RuntimeError(
                "replies are handed out once: keep them, replies = list(replies), to look at them "
                "before they are added up"
            )
        self._begun = True
        waiting = iter(self._messages)
        outstanding: dict[str, int] = {}
        reconnections = Reconnections(self._grid, clock=self._clock)
        last_arrival = started = self._clock()
        while True:
            batch = list(islice(waiting, self._window - len(outstanding)))
            if batch:
                outstanding.update(self._push(batch))
            elif not outstanding:
                return
            replies = self._pull(outstanding)
            yield from replies
            now = self._clock()
            if now - started >= self._timeout:
                self.missing.extend(outstanding.values())
                self.missing.extend(message.metadata.dst_node_id for message in waiting)
                return
            if replies:
                last_arrival = now
            else:
                self._ask_again(reconnections.new(), outstanding, waited=now - started)
                pause = PAUSE_SHARE * (now - last_arrival)
                self._sleep(min(max(pause, SHORTEST_PAUSE), LONGEST_PAUSE))

    def _ask_again(self, nodes: set[int], outstanding: dict[str, int], *, waited: float) -> None:
        """Sends what these nodes have not answered once more; the second time they are missing.

        Harmless if the first message was not lost: a node starts a round from the versions before
        it, however often it is asked, and only the reply to the second message counts.
        """
        lost = {message: node for message, node in outstanding.items() if node in nodes}
        batch = []
        for message_id, node in lost.items():
            del outstanding[message_id]
            if node in self._asked_again:
                log.warning("node %d has connected anew a second time: it is missing", node)
                self.missing.append(node)
                continue
            log.warning("node %d has connected anew without a reply: it is asked again", node)
            self._asked_again.add(node)
            batch += [again(m, waited) for m in self._messages if m.metadata.dst_node_id == node]
        if batch:
            outstanding.update(self._push(batch))

    def _push(self, batch: list[Message]) -> dict[str, int]:
        """Nodes by message id of what the grid took; what it refused is missing."""
        taken = {message_id for message_id in self._grid.push_messages(batch) if message_id}
        sent = {}
        for message in batch:
            node, message_id = message.metadata.dst_node_id, message.metadata.message_id
            if message_id in taken:
                sent[message_id] = node
            else:
                self.missing.append(node)
        self._node_by_message.update(sent)
        return sent

    def _pull(self, outstanding: dict[str, int]) -> list[Message]:
        if not outstanding:
            return []
        return [
            reply
            for reply in self._grid.pull_messages(list(outstanding))
            if outstanding.pop(reply.metadata.reply_to_message_id, None) is not None
        ]


def again(message: Message, waited: float) -> Message:
    """The same request as a new message, ``waited`` seconds later; both expire together."""
    about = message.metadata
    return Message(
        message.content,
        about.dst_node_id,
        about.message_type,
        group_id=about.group_id,
        ttl=about.ttl - waited,
    )

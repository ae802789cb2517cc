from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from strategies.exchange import LONGEST_PAUSE, SHORTEST_PAUSE, Exchange
from strategies.reconnections import SECONDS_BETWEEN_LOOKS
from tests.support.flower_internals import came_from
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class ScriptedGrid(LocalGrid):
    """Answers of node i come ``delays[i]`` seconds after the message; None: never."""

    def __init__(self, delays: list[float | None], clock: Clock) -> None:
        super().__init__(
            lambda message, context: Message(RecordDict(), reply_to=message), len(delays)
        )
        self.delays, self.clock = delays, clock
        self.sent_at: dict[str, float] = {}
        self.answered: set[str] = set()
        self.refused: set[int] = set()
        self.failing: set[int] = set()
        self.absences: dict[int, list[tuple[float, float]]] = {}  # it loses what it had taken
        self.messages: list[Message] = []
        self.outstanding: list[int] = []

    def get_nodes(self) -> Iterable[NodeInfo]:
        """As Flower's engines tell it; a node that is away is not among them."""
        for node in self.get_node_ids():
            began = [0.0, *(back for _, back in self.absences.get(node, ()))]
            if not self.is_away(node):
                last = max(moment for moment in began if moment <= self.clock.now)
                yield NodeInfo(node_id=node, last_activated_at=str(last))

    def is_away(self, node: int) -> bool:
        return any(away <= self.clock.now < back for away, back in self.absences.get(node, ()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        assert isinstance(messages, list)  # the deployed grid walks it twice
        accepted = [m for m in messages if m.metadata.dst_node_id not in self.refused]
        ids = list(super().push_messages(accepted))
        self.messages += accepted
        self.sent_at |= dict.fromkeys(ids, self.clock.now)
        self.outstanding.append(len(self.sent_at) - len(self.answered))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = []
        for message_id in message_ids:
            message = self._waiting[message_id]
            node = message.metadata.dst_node_id
            delay = self.delays[node - FIRST_NODE_ID]
            sent, now = self.sent_at[message_id], self.clock.now
            if any(sent <= away <= now for away, _ in self.absences.get(node, ())):
                delay = None
            if delay is None or now < sent + delay:
                continue
            self.answered.add(message_id)
            if node in self.failing:  # made by the SuperLink, whose id is 1
                reply = Message(Error(code=5, reason="Node Unavailable"), reply_to=message)
                came_from(reply, 1)
                replies.append(reply)
            else:
                replies += super().pull_messages([message_id])
        return replies


def exchange(
    grid: ScriptedGrid, clock: Clock, *, window: int = 4, timeout: float = 60.0
) -> Exchange:
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type="train")
        for node in grid.get_node_ids()
    ]
    return Exchange(grid, messages, window=window, timeout=timeout, clock=clock, sleep=clock.sleep)


def test_every_node_answers_once_and_the_window_is_kept() -> None:
    clock = Clock()
    grid = ScriptedGrid([0.1 + 0.01 * (i % 7) for i in range(50)], clock)
    phase = exchange(grid, clock)
    nodes = [phase.node_of(reply) for reply in phase]
    assert sorted(nodes) == sorted(grid.get_node_ids())
    assert phase.missing == []
    assert max(grid.outstanding) == 4


def test_lost_and_late_replies_are_missing_after_the_limit() -> None:
    clock = Clock()
    grid = ScriptedGrid([0.5, None, 99.0, 0.5], clock)
    phase = exchange(grid, clock, timeout=10.0)
    assert [phase.node_of(reply) - FIRST_NODE_ID for reply in phase] == [0, 3]
    assert sorted(node - FIRST_NODE_ID for node in phase.missing) == [1, 2]
    assert 10.0 <= clock.now < 10.0 + LONGEST_PAUSE


def test_what_never_left_the_window_is_missing_too() -> None:
    clock = Clock()
    grid = ScriptedGrid([None, None, 0.1, 0.1], clock)
    phase = exchange(grid, clock, window=2, timeout=5.0)
    assert list(phase) == []
    assert len(phase.missing) == 4
    assert phase.sent == 4


def test_an_error_made_by_the_superlink_is_mapped_to_the_node_asked() -> None:
    clock = Clock()
    grid = ScriptedGrid([0.1, 0.1], clock)
    grid.failing = {FIRST_NODE_ID + 1}
    phase = exchange(grid, clock)
    replies = list(phase)
    assert [reply.metadata.src_node_id for reply in replies] == [FIRST_NODE_ID, 1]
    assert [phase.node_of(reply) for reply in replies] == [FIRST_NODE_ID, FIRST_NODE_ID + 1]


def test_a_message_the_grid_refuses_is_missing_and_the_rest_goes_on() -> None:
    clock = Clock()
    grid = ScriptedGrid([0.1] * 5, clock)
    grid.refused = {FIRST_NODE_ID + 2}
    phase = exchange(grid, clock, window=2)
    assert len(list(phase)) == 4
    assert phase.missing == [FIRST_NODE_ID + 2]


def test_replies_are_handed_out_before_the_next_messages_leave() -> None:
    """Memory does not grow with the nodes: at most a window of replies exists at once."""
    clock = Clock()
    grid = ScriptedGrid([0.0] * 20, clock)
    held = 0
    for count, _ in enumerate(exchange(grid, clock, window=3), start=1):
        held = max(held, len(grid.answered) - (count - 1))
    assert held <= 3


def test_the_pause_grows_with_the_waiting_and_is_bounded() -> None:
    clock = Clock()
    list(exchange(ScriptedGrid([100.0], clock), clock, timeout=200.0))
    assert clock.pauses[0] == SHORTEST_PAUSE
    assert max(clock.pauses) == LONGEST_PAUSE
    assert clock.now == pytest.approx(100.0, abs=LONGEST_PAUSE)


def test_a_node_that_is_back_before_anyone_saw_it_gone_is_asked_again() -> None:
    clock = Clock()
    grid = ScriptedGrid([30.0, 1.0], clock)
    grid.absences[FIRST_NODE_ID] = [(10.0, 10.1)]
    phase = exchange(grid, clock, timeout=600.0)
    replies = list(phase)
    assert [phase.node_of(reply) - FIRST_NODE_ID for reply in replies] == [1, 0]
    assert phase.missing == []
    assert (phase.sent, grid.pushed) == (2, 3)
    assert clock.now < 10.1 + SECONDS_BETWEEN_LOOKS + 30.0 + 2 * LONGEST_PAUSE


def test_the_second_request_is_the_first_and_expires_with_it() -> None:
    clock = Clock()
    grid = ScriptedGrid([5.0], clock)
    grid.absences[FIRST_NODE_ID] = [(1.0, 2.0)]
    message = Message(
        RecordDict(), dst_node_id=FIRST_NODE_ID, message_type="train", group_id="7", ttl=100.0
    )
    phase = Exchange(grid, [message], window=1, timeout=60.0, clock=clock, sleep=clock.sleep)
    (reply,) = phase
    again = grid.messages[1].metadata
    assert reply.metadata.reply_to_message_id == again.message_id != message.metadata.message_id
    assert (again.message_type, again.group_id) == ("train", "7")
    assert again.ttl == pytest.approx(100.0 - grid.sent_at[again.message_id])


def test_a_node_that_connects_anew_twice_is_missing_without_more_waiting() -> None:
    clock = Clock()
    grid = ScriptedGrid([None, 1.0], clock)
    grid.absences[FIRST_NODE_ID] = [(5.0, 6.0), (40.0, 41.0)]
    phase = exchange(grid, clock, timeout=600.0)
    assert [phase.node_of(reply) - FIRST_NODE_ID for reply in phase] == [1]
    assert phase.missing == [FIRST_NODE_ID]
    assert grid.pushed == 3
    assert clock.now < 41.0 + SECONDS_BETWEEN_LOOKS + LONGEST_PAUSE


def test_a_node_that_is_away_or_has_answered_is_not_asked_again() -> None:
    clock = Clock()
    grid = ScriptedGrid([None, 1.0, 20.0], clock)
    grid.absences = {FIRST_NODE_ID: [(5.0, 500.0)], FIRST_NODE_ID + 1: [(5.0, 6.0)]}
    phase = exchange(grid, clock, timeout=30.0)
    assert [phase.node_of(reply) - FIRST_NODE_ID for reply in phase] == [1, 2]
    assert phase.missing == [FIRST_NODE_ID]
    assert grid.pushed == 3

"""A thousand nodes that answer at once: every reply counts, memory is that of a window."""

from __future__ import annotations

import tracemalloc

import numpy as np
from flwr.app import ArrayRecord, Context, Message

from mrff.wire.records import array_record
from strategies.reports import RoundReport, Silent
from strategies.schedule import Conduct
from strategies.server_optimizer import Average
from strategies.state import TrainingState
from tests.support.local_grid import LocalGrid
from tests.support.replies import (
    PUBLIC,
    User,
    evaluate_content,
    expert,
    new_state,
    strategy_of,
    train_content,
)

SIZE = 50_000  # floats of the public part: a reply of 200 kB
WINDOW = 16


class Rounds(Silent):
    def __init__(self) -> None:
        self.reports: list[RoundReport] = []

    def round_finished(self, report: RoundReport) -> None:
        self.reports.append(report)


def client(message: Message, context: Context) -> Message:
    if message.metadata.message_type == "train":
        user = User(1.0, np.full(SIZE, context.node_id), context.node_id % 2, np.ones(2))
        return Message(train_content([user], 1), reply_to=message)
    return Message(evaluate_content(1), reply_to=message)


def run(nodes: int) -> tuple[TrainingState, RoundReport, int]:
    """State, report and the most bytes that were allocated at once in a round."""
    small = new_state()
    state = TrainingState({PUBLIC: np.zeros(SIZE, np.float32)}, small.group)
    rounds = Rounds()
    conduct = Conduct(observer=rounds, send_window=WINDOW)
    strategy = strategy_of(Average(1.0), state, conduct=conduct)
    initial: ArrayRecord = array_record(state.public)
    tracemalloc.start()
    strategy.start(LocalGrid(client, nodes), initial, num_rounds=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return strategy.state, rounds.reports[0], peak


def test_no_reply_is_lost_and_memory_does_not_grow_with_the_nodes() -> None:
    _, _, few = run(2 * WINDOW)
    state, report, many = run(1000)
    assert (report.traffic.sent, report.traffic.replies, report.users) == (1000, 1000, 1000)
    assert report.traffic.rejected == []
    assert report.traffic.missing == []
    # The nodes' ids are 100 to 1099, each the value of its update.
    np.testing.assert_allclose(state.public[PUBLIC], np.full(SIZE, 599.5), rtol=1e-6)
    assert expert(0) in state.group
    # A tenth of what 1,000 replies take; per node there are a message and some numbers.
    assert many - few < 1000 * SIZE * 4 / 10

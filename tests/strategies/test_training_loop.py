from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message

from mrff.wire.aggregation import RoundFailedError
from mrff.wire.records import array_record, content_bytes
from mrff.wire.requests import Request, RoundFacts
from strategies.mrff import MRFF
from strategies.reports import EvaluationReport, RoundReport
from strategies.schedule import Conduct, Schedule
from strategies.server_optimizer import Adam
from strategies.state import TrainingState
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid
from tests.support.replies import (
    BINS,
    PUBLIC,
    User,
    evaluate_content,
    new_state,
    strategy_of,
    train_content,
)

ADAM = Adam(0.1, 0.9, 0.99, 1e-8)


class Client:
    """Three users; the update depends on model and round, quality on the round by a table."""

    def __init__(self, quality: dict[int, int] | None = None) -> None:
        self.quality = quality or {}  # round to the bin of the positive; the negative is in bin 3
        self.asked: list[tuple[str, int, RoundFacts]] = []
        self.failing_from = 10**9

    def __call__(self, message: Message, context: Context) -> Message:
        request = Request.read(message.content)
        server_round = request.facts.round
        self.asked.append((message.metadata.message_type, server_round, request.facts))
        if server_round >= self.failing_from:
            raise OSError("disk full")
        public = request.public[PUBLIC]
        if message.metadata.message_type == "train":
            k = (server_round + context.node_id) % 2
            users = [User(1.0 + i, 0.1 * public + i, k, np.full(2, 0.1)) for i in range(3)]
            return Message(train_content(users, server_round), reply_to=message)
        positives = [0] * BINS
        positives[self.quality.get(server_round, 12)] = 1
        return Message(evaluate_content(server_round, positives=positives), reply_to=message)


class Diary:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.rounds: list[RoundReport] = []
        self.evaluations: list[tuple[str, int, bool]] = []
        self.saved: list[TrainingState] = []

    def round_finished(self, report: RoundReport) -> None:
        self.rounds.append(report)

    def evaluated(self, report: EvaluationReport, *, is_best: bool) -> None:
        self.evaluations.append((report.split, report.round, is_best))

    def save(self, state: TrainingState) -> None:
        self.saved.append(TrainingState.restored(state.arrays(), state.numbers()))


def run(
    client: Client,
    rounds: int,
    *,
    state: TrainingState | None = None,
    nodes: int = 3,
    **settings: Any,
) -> tuple[MRFF, Diary]:
    diary = Diary()
    schedule = Schedule(**{"evaluate_every": 2, "checkpoint_every": 4, **settings})
    strategy = strategy_of(ADAM, state, conduct=Conduct(schedule, diary))
    strategy.start(LocalGrid(client, nodes), array_record(strategy.state.public), num_rounds=rounds)
    return strategy, diary


def test_what_nodes_are_told() -> None:
    client = Client()
    run(client, 2, nodes=1)
    kinds = [(kind, server_round) for kind, server_round, _ in client.asked]
    assert kinds == [("train", 1), ("train", 2), ("evaluate", 2), ("evaluate", 2)]
    first, second, validation, test = (request for _, _, request in client.asked)
    assert first == RoundFacts(
        round=1, epoch_starts=[0], checkpoint_round=0, best_round=0, loads=[], terms={}, part=""
    )
    assert second.loads == [0.0, 1.0]  # node 100 in round 1: everybody on expert 1
    assert validation.part == "valid"
    assert (test.part, test.best_round, test.checkpoint_round) == ("test", 2, 2)


def test_validation_checkpoint_and_test_come_when_they_should() -> None:
    """Validated after 2, 4, 6 and the last, 7; best at 4, saved at once; test at the best."""
    client = Client({2: 3, 4: 12, 6: 3, 7: 3})
    strategy, diary = run(client, 7)
    assert diary.evaluations == [
        ("valid", 2, True),
        ("valid", 4, True),
        ("valid", 6, False),
        ("valid", 7, False),
        ("test", 4, True),
    ]
    assert [state.round for state in diary.saved] == [2, 4, 7]
    assert [report.round for report in diary.rounds] == [1, 2, 3, 4, 5, 6, 7]
    assert strategy.state.best_round == 4
    at_best = diary.saved[1].public[PUBLIC]
    np.testing.assert_array_equal(strategy.state.best_public[PUBLIC], at_best)


def test_a_node_hears_of_a_best_round_only_when_it_is_saved() -> None:
    client = Client({2: 3, 4: 12})
    run(client, 7)
    for _, _, request in client.asked:
        assert request.best_round <= request.checkpoint_round


def test_early_stop_tests_the_best_model() -> None:
    client = Client({2: 12, 4: 3, 6: 3, 8: 12})
    strategy, diary = run(client, 100, early_stop_patience=2)
    assert strategy.state.round == 6
    assert diary.saved[-1].round == 6
    assert diary.evaluations[-1] == ("test", 2, True)


@pytest.mark.parametrize("first", [4, 5])
def test_resuming_is_bit_for_bit_the_same(first: int) -> None:
    """5 + 5 rounds are 10: model, experts, Adam's moments, loads; also off the schedule."""
    whole, _ = run(Client(), 10)
    _, half = run(Client(), first)
    saved = half.saved[-1]
    saved.resumed()
    resumed, diary = run(Client(), 10, state=saved)

    assert resumed.state.epoch_starts == [0, first]
    assert [report.round for report in diary.rounds] == list(range(first + 1, 11))
    ours, theirs = resumed.state.arrays(), whole.state.arrays()
    for name in theirs:
        if not name.startswith("best-"):
            assert ours[name].tobytes() == theirs[name].tobytes(), name
    assert resumed.state.loads == whole.state.loads


def test_failing_nodes_stop_the_run_and_the_last_good_round_is_saved() -> None:
    client = Client()
    client.failing_from = 4
    diary = Diary()
    strategy = strategy_of(ADAM, conduct=Conduct(Schedule(evaluate_every=2), diary))
    arrays = array_record(strategy.state.public)
    with pytest.raises(
        RoundFailedError,
        match=r"training round 4: 0 of 3 nodes .* node 100 and 2 more: .*disk full",
    ):
        strategy.start(LocalGrid(client, 3), arrays, num_rounds=10)
    assert diary.saved[-1].round == 3

    # From there the run goes on as if nothing had happened.
    state = diary.saved[-1]
    state.resumed()
    resumed, _ = run(Client(), 10, state=state)
    whole, _ = run(Client(), 10)
    assert resumed.state.public[PUBLIC].tobytes() == whole.state.public[PUBLIC].tobytes()


def test_a_validation_that_failed_is_made_up_for_on_resumption() -> None:
    class FailsToEvaluate(Client):
        def __call__(self, message: Message, context: Context) -> Message:
            if message.metadata.message_type == "evaluate":
                raise OSError("no")
            return super().__call__(message, context)

    diary = Diary()
    strategy = strategy_of(ADAM, conduct=Conduct(observer=diary))
    with pytest.raises(RoundFailedError, match=r"evaluation \(valid\) of round 5"):
        strategy.start(
            LocalGrid(FailsToEvaluate(), 2), array_record(strategy.state.public), num_rounds=5
        )
    assert diary.saved[-1].round == 5
    _, again = run(Client(), 5, state=diary.saved[-1])
    assert again.evaluations == [("valid", 5, True), ("test", 5, True)]
    assert again.saved[-1].best_round == 5


def test_bytes_are_counted_both_ways() -> None:
    strategy, diary = run(Client(), 1, nodes=2)
    grid = LocalGrid(Client(), 2)
    request = strategy_of(ADAM).configure_train(
        1, array_record(new_state().public), ConfigRecord(), grid
    )
    assert diary.rounds[0].traffic.bytes_down == 2 * content_bytes(request[0].content)
    assert diary.rounds[0].traffic.bytes_up > 0
    assert strategy.state.bytes_down > diary.rounds[0].traffic.bytes_down  # evaluation as well


def test_requests_are_a_list_in_the_order_of_node_ids() -> None:
    strategy = strategy_of(ADAM, conduct=Conduct(reply_timeout=30.0))
    messages = strategy.configure_train(
        1, array_record(new_state().public), ConfigRecord(), LocalGrid(Client(), 4)
    )
    assert isinstance(messages, list)
    assert [m.metadata.dst_node_id for m in messages] == [FIRST_NODE_ID + i for i in range(4)]
    assert messages[0].metadata.ttl == 90.0

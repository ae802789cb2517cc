"""Flower's own names are the path that runs: overriding one of them changes the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from mrff.privacy.mechanisms.none import PlainServer
from mrff.wire.records import array_record, arrays_of
from mrff.wire.requests import Request
from server_app import parts
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from strategies.model_step import ModelStep
from strategies.mrff import MRFF
from strategies.reports import RoundReport, Silent
from strategies.schedule import Conduct, Schedule
from strategies.server_optimizer import Average
from tests.support.federation import run_federation
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid
from tests.support.replies import (
    PUBLIC,
    User,
    evaluate_content,
    evaluation,
    new_state,
    train_content,
)

UPDATES = [1.0, 3.0]  # of the users of both nodes, whose weights are alike: the mean is 2


class Nodes:
    """Two nodes of one user each; remembers who was asked what, with which public array."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, int], list[tuple[int, list[float]]]] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        request, kind = Request.read(message.content), message.metadata.message_type
        number, node = request.facts.round, context.node_id - FIRST_NODE_ID
        phase = self.asked.setdefault((request.facts.part or kind, number), [])
        phase.append((node, request.public[PUBLIC].tolist()))
        if kind == "train":
            user = User(1.0, np.full(3, UPDATES[node]), 0, np.zeros(2))
            return Message(train_content([user], number), reply_to=message)
        return Message(evaluate_content(number), reply_to=message)


class Rounds(Silent):
    def __init__(self) -> None:
        self.reports: list[RoundReport] = []

    def round_finished(self, report: RoundReport) -> None:
        self.reports.append(report)


def run(kind: type[MRFF], rounds: int = 2) -> tuple[MRFF, Result, Nodes]:
    step, conduct = ModelStep(Average(1.0)), Conduct(observer=Rounds())
    strategy = kind(new_state(), step, PlainServer(), evaluation(), conduct)
    nodes, initial = Nodes(), array_record(strategy.state.public)
    return strategy, strategy.start(LocalGrid(nodes, 2), initial, num_rounds=rounds), nodes


def test_nothing_overridden() -> None:
    """What the others are told apart from: [1, 2, 3], and 2 more in each round."""
    strategy, result, nodes = run(MRFF)
    assert nodes.asked["train", 2] == [(0, [3.0, 4.0, 5.0]), (1, [3.0, 4.0, 5.0])]
    assert [node for node, _ in nodes.asked["valid", 2]] == [0, 1]
    assert strategy.state.public[PUBLIC].tolist() == [5.0, 6.0, 7.0]
    assert result.arrays[PUBLIC].numpy().tolist() == [5.0, 6.0, 7.0]
    assert result.evaluate_metrics_clientapp[2]["users"] == 4


class AsksOneNode(MRFF):
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        return super().configure_train(server_round, arrays, config, grid)[1:]


def test_configure_train_says_who_is_asked() -> None:
    strategy, result, nodes = run(AsksOneNode)
    assert nodes.asked["train", 1] == [(1, [1.0, 2.0, 3.0])]
    assert nodes.asked["train", 2] == [(1, [4.0, 5.0, 6.0])]
    assert strategy.state.public[PUBLIC].tolist() == [7.0, 8.0, 9.0]  # node 1 adds 3 a round
    assert result.train_metrics_clientapp[2]["users"] == 1
    reports = strategy.observer.reports  # type: ignore[attr-defined]
    assert [report.traffic.sent for report in reports] == [1, 1]


class Halves(MRFF):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        metrics["own"] = 10.0 * server_round
        return array_record({n: a / 2 for n, a in arrays_of(arrays).items()}), metrics


def test_aggregate_train_says_what_the_model_becomes() -> None:
    strategy, result, nodes = run(Halves)
    # ([1, 2, 3] + 2) / 2, and once more
    assert nodes.asked["train", 2] == [(0, [1.5, 2.0, 2.5]), (1, [1.5, 2.0, 2.5])]
    assert nodes.asked["valid", 2] == [(0, [1.75, 2.0, 2.25]), (1, [1.75, 2.0, 2.25])]
    assert nodes.asked["test", 2] == nodes.asked["valid", 2]
    assert strategy.state.public[PUBLIC].tolist() == [1.75, 2.0, 2.25]
    assert result.arrays[PUBLIC].numpy().tolist() == [1.75, 2.0, 2.25]
    assert [result.train_metrics_clientapp[n]["own"] for n in (1, 2)] == [10.0, 20.0]
    assert result.train_metrics_clientapp[1]["train-loss"] == 0.5


class CountsAlone(MRFF):
    """An own aggregation that makes no use of this one's."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        count = len(list(replies))
        return array_record({PUBLIC: np.full(3, count, np.float32)}), MetricRecord({"n": count})


def test_an_own_aggregate_train_may_take_the_place_of_all_of_it() -> None:
    strategy, result, nodes = run(CountsAlone)
    assert nodes.asked["train", 2] == [(0, [2.0, 2.0, 2.0]), (1, [2.0, 2.0, 2.0])]
    assert strategy.state.round == 2
    assert dict(result.train_metrics_clientapp[2]) == {"n": 2}


class LooksTwice(MRFF):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        assert len(list(replies)) == 2
        return super().aggregate_train(server_round, replies)


class KeepsThem(MRFF):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        kept = list(replies)
        assert len(kept) == 2
        return super().aggregate_train(server_round, kept)


def test_replies_are_handed_out_once_and_a_second_look_asks_nobody_again() -> None:
    """In private modes a round that is answered twice is charged twice."""
    with pytest.raises(RuntimeError, match=r"handed out once: keep them, replies = list"):
        run(LooksTwice)
    strategy, _, _ = run(KeepsThem)
    assert strategy.state.public[PUBLIC].tolist() == [5.0, 6.0, 7.0]


class ValidatesOnOneNode(MRFF):
    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        return super().configure_evaluate(server_round, arrays, config, grid)[:1]


def test_configure_evaluate_says_who_validates() -> None:
    strategy, result, nodes = run(ValidatesOnOneNode)
    assert nodes.asked["valid", 2] == [(0, [5.0, 6.0, 7.0])]
    assert result.evaluate_metrics_clientapp[2]["users"] == 2
    assert strategy.state.best_round == 2


class MeasuresMore(MRFF):
    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        metrics = super().aggregate_evaluate(server_round, replies)
        metrics["own"] = 0.25
        return metrics


class MeasuresAlone(MRFF):
    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        return MetricRecord({"own": 0.25, "replies": len(list(replies))})


@pytest.mark.parametrize("kind", [MeasuresMore, MeasuresAlone])
def test_aggregate_evaluate_says_what_is_measured(kind: type[MRFF]) -> None:
    """Where it alone measures, the latest model is the one that is tested and returned."""
    strategy, result, nodes = run(kind)
    metrics = result.evaluate_metrics_clientapp[2]
    assert metrics["own"] == 0.25
    assert ("auc" in metrics) == (kind is MeasuresMore)
    assert strategy.state.best_round == 2
    assert nodes.asked["test", 2] == [(0, [5.0, 6.0, 7.0]), (1, [5.0, 6.0, 7.0])]
    assert result.arrays[PUBLIC].numpy().tolist() == [5.0, 6.0, 7.0]


class PrefersTheFirst(MRFF):
    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord:
        metrics = super().aggregate_evaluate(server_round, replies)
        metrics["auc"] = 1.0 / server_round
        return metrics


def test_what_aggregate_evaluate_returns_says_which_model_is_best() -> None:
    schedule = Schedule(evaluate_every=1)
    conduct = Conduct(schedule=schedule)
    step = ModelStep(Average(1.0))
    strategy = PrefersTheFirst(new_state(), step, PlainServer(), evaluation(), conduct)
    initial = array_record(strategy.state.public)
    strategy.start(LocalGrid(Nodes(), 2), initial, num_rounds=3)
    assert (strategy.state.best_round, strategy.state.best_value) == (1, 1.0)


class Zeroes(MRFF):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        return array_record({n: np.zeros_like(a) for n, a in arrays_of(arrays).items()}), metrics


def test_in_a_whole_run_of_both_apps(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(AsksOneNode, Zeroes, ValidatesOnOneNode, MeasuresMore):
        """All four at once."""

    monkeypatch.setattr(parts, "MRFF", Own)
    run_federation(small_data, tmp_path, nodes=2, name="own", num_server_rounds=2)
    entries = read_history(tmp_path / "runs/own/history.jsonl")
    sent = [(entry["kind"], entry["round"], entry["sent"]) for entry in entries]
    assert sent == [("round", 1, 1), ("round", 2, 1), ("validation", 2, 1), ("test", 2, 2)]
    state = load_checkpoint(tmp_path / "runs/own/checkpoint").state
    assert state.public
    assert not any(array.any() for array in state.public.values())
    assert any(array.any() for array in state.group.values())

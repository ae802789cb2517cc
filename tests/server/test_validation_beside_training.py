"""A validation in the next round's messages: the same numbers and the same files, a phase less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MessageType, RecordDict

from client_app.app import app as client_app
from mrff.config import full_names
from mrff.wire.aggregation import RoundFailedError
from server_app import parts
from server_app.app import app as server_app
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import History, read_history
from strategies.schedule import Schedule
from tests.support.federation import run_federation
from tests.support.local_grid import LocalGrid

ROUNDS, NODES = 5, 3
OF_THE_WAY = {"sent", "replies", "rejected", "missing", "bytes_down", "bytes_up", "seconds"}


def what_came_out(home: Path, name: str) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Arrays, numbers and history of a run, without what depends on how messages went."""
    state = load_checkpoint(home / "runs" / name / "checkpoint").state
    history = [
        {key: value for key, value in entry.items() if key not in OF_THE_WAY}
        for entry in read_history(home / "runs" / name / "history.jsonl")
    ]
    numbers = {n: v for n, v in state.numbers().items() if n not in OF_THE_WAY | {"epoch_starts"}}
    return state.arrays(), numbers, history


def assert_same(ours: tuple[Any, Any, Any], theirs: tuple[Any, Any, Any]) -> None:
    assert ours[0].keys() == theirs[0].keys()
    for name, array in theirs[0].items():
        np.testing.assert_array_equal(ours[0][name], array, err_msg=name)
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]


def _validating(*, beside: bool) -> Callable[..., Schedule]:
    def make(*arguments: Any, **keywords: Any) -> Schedule:
        return Schedule(*arguments, **{**keywords, "beside": beside})

    return make


@pytest.mark.parametrize("every", [1, 2])
def test_bit_for_bit_the_same_with_fewer_messages(
    small_data: Path, tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"num_server_rounds": ROUNDS, "evaluate_every": every}
    grids = {}
    for name, beside in (("beside", True), ("apart", False)):
        monkeypatch.setattr(parts, "Schedule", _validating(beside=beside))
        grids[name] = run_federation(small_data, tmp_path, nodes=NODES, name=name, **settings)
    assert_same(*(what_came_out(tmp_path, name) for name in grids))
    saved = NODES * ((ROUNDS - 1) // every)  # the last round's validation has nowhere to go
    assert grids["apart"].pushed - grids["beside"].pushed == saved


@pytest.mark.parametrize("failing", [2, 3, 4])
def test_a_run_that_breaks_off_with_a_validation_on_its_way(
    small_data: Path, tmp_path: Path, failing: int
) -> None:
    config: dict[str, Any] = {
        "fit-settings": False,
        "data-dir": str(small_data), "home": str(tmp_path), "run.name": "broken",
        "expected-nodes": NODES, "num-server-rounds": ROUNDS, "evaluate-every": 1,
        "checkpoint-every": 1, "feature-dim": 4, "window-length": 16, "sampling-rate": 0.6,
        "tensorboard": False,
    }  # fmt: skip
    config = full_names(config)

    def breaking(message: Message, context: Context) -> Message:
        reply = client_app(message, context)  # the node has trained and kept its users' state
        is_train = message.metadata.message_type == MessageType.TRAIN
        if is_train and message.content["round"]["round"] == failing:
            raise ConnectionError("the line is dead")
        return reply

    with pytest.raises(RoundFailedError):
        server_app(grid=LocalGrid(breaking, NODES, config), context=_context(config))
    config = {**config, "run.name": "auto", "run.resume": "broken"}
    server_app(grid=LocalGrid(client_app, NODES, config), context=_context(config))
    run_federation(
        small_data, tmp_path, nodes=NODES, name="whole", num_server_rounds=ROUNDS,
        evaluate_every=1, checkpoint_every=1,
    )  # fmt: skip
    assert_same(what_came_out(tmp_path, "broken"), what_came_out(tmp_path, "whole"))


def test_a_validation_younger_than_the_checkpoint_is_not_told_twice(
    small_data: Path, tmp_path: Path
) -> None:
    """As if the power had failed right after the last line of the history was written."""
    run_federation(
        small_data, tmp_path, nodes=NODES, name="whole", num_server_rounds=4, evaluate_every=1,
        checkpoint_every=1,
    )  # fmt: skip
    path = tmp_path / "runs/whole/history.jsonl"
    before = read_history(path)
    History(path).cut_after(3, 2)
    kept = read_history(path)
    assert [e["round"] for e in kept if e["kind"] == "validation"] == [1, 2]
    assert [e["round"] for e in kept if e["kind"] == "round"] == [1, 2, 3]
    assert len(before) == 9


def test_early_stopping_knows_before_it_trains_on(small_data: Path, tmp_path: Path) -> None:
    grid = run_federation(
        small_data, tmp_path, nodes=NODES, name="stopped", num_server_rounds=3, evaluate_every=1,
        early_stop_patience=50, record=True,
    )  # fmt: skip
    assert grid.pushed == NODES * 7  # 3 rounds, 3 validations, the test


def _context(config: dict[str, Any]) -> Context:
    return Context(1, 0, {}, RecordDict(), config)

"""Whole runs of the real ServerApp and ClientApp over real messages, in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Context, RecordDict

from client_app.app import app as client_app
from mrff.config import ConfigError, full_names
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.io.files import OutputError
from mrff.wire.aggregation import RoundFailedError
from server_app.app import app as server_app
from server_app.nodes import MissingNodesError
from server_app.run.checkpoint import CheckpointError, load_checkpoint
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.local_grid import LocalGrid
from tests.support.small_folders import alternating, write

USERS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "synthetic"
    prepare("synthetic", out=folder, options={"users": USERS, "items": 20})
    return folder


def run(
    data: Path, home: Path, nodes: int = 3, also: dict[str, Any] | None = None, **changes: Any
) -> LocalGrid:
    """One run of a small network; keywords are settings in snake_case, ``also`` as they are."""
    config: dict[str, Any] = {
        "dataset": "synthetic",
        "data-dir": str(data),
        "home": str(home),
        "expected-nodes": nodes,
        "node-wait-seconds": 0.5,
        "num-server-rounds": 4,
        "evaluate-every": 2,
        "checkpoint-every": 5,
        "feature-dim": 3,
        "window-length": 8,
        "sampling-rate": 0.7,
        "tensorboard": False,
    }
    config |= {name.replace("_", "-"): value for name, value in changes.items()}
    config = full_names(config) | (also or {})
    grid = LocalGrid(client_app, min(nodes, USERS), config)
    context = Context(1, 0, {}, RecordDict(), config)
    server_app(grid=grid, context=context)
    return grid


def test_what_a_run_leaves(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(data, tmp_path, name="first", tensorboard=True)
    folder = tmp_path / "runs" / "first"

    summary = json.loads((folder / "summary.json").read_text())
    assert 0.0 <= summary["test"]["auc"] <= 1.0
    assert summary["best_round"] in (2, 4)
    assert summary["rounds"] == 4
    assert summary["test_users"] == USERS

    history = read_history(folder / "history.jsonl")
    kinds = [(entry["kind"], entry["round"]) for entry in history if entry["kind"] != "query"]
    rounds = [1, 2, "v", 3, 4, "v"]
    assert [r if kind == "round" else "v" for kind, r in kinds[:-1]] == rounds
    assert kinds[-1] == ("test", summary["best_round"])

    best = json.loads((folder / "best" / "best.json").read_text())
    assert best["round"] == summary["best_round"]
    model = safetensors.numpy.load_file(folder / "best" / best["model"])
    state = load_checkpoint(folder / "checkpoint").state
    assert model.keys() == {**state.public, **state.group}.keys()
    assert state.round == 4
    assert json.loads((folder / "config.json").read_text())["server.num-server-rounds"] == 4
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    last = [r.getMessage() for r in caplog.records][-1]
    assert last.startswith("test auc 0.")
    assert f"best-round {summary['best_round']}" in last


def test_tensorboard_reads_the_events(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(data, tmp_path, name="events", tensorboard=True)
    folder = tmp_path / "runs" / "events"
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    losses = [e["train_loss"] for e in read_history(folder / "history.jsonl") if "train_loss" in e]
    read = [scalar.value for scalar in events.Scalars("train/loss")]
    np.testing.assert_allclose(read, losses, rtol=1e-6)
    assert [s.step for s in events.Scalars("valid/auc")] == [2, 4]


def test_5_and_5_rounds_are_10_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """With private parameters in the nodes' stores, dropout, sampling and server Adam."""
    steady = {"evaluate_every": 5, "server_decay_rounds": 100}
    run(data, tmp_path, name="whole", num_server_rounds=10, **steady)
    run(data, tmp_path, name="halves", num_server_rounds=5, **steady)
    run(data, tmp_path, resume="halves", num_server_rounds=10, **steady)

    whole, halves = tmp_path / "runs" / "whole", tmp_path / "runs" / "halves"
    ours = load_checkpoint(halves / "checkpoint").state
    theirs = load_checkpoint(whole / "checkpoint").state
    for name, array in theirs.arrays().items():
        assert ours.arrays()[name].tobytes() == array.tobytes(), name
    assert ours.epoch_starts == [0, 5]
    assert (ours.loads, ours.best_round) == (theirs.loads, theirs.best_round)
    assert _curve(halves) == _curve(whole)
    summaries = [json.loads((f / "summary.json").read_text()) for f in (whole, halves)]
    assert summaries[0]["test"] == summaries[1]["test"]


def test_a_crash_between_checkpoints_loses_nothing(data: Path, tmp_path: Path) -> None:
    """The server dies in round 4, nodes have trained 3 and 4; resumed at 2, all is as before."""

    class DyingGrid(LocalGrid):
        def push_messages(self, messages: Any) -> Any:
            messages = list(messages)
            about = messages[0].metadata
            if (about.message_type, about.group_id) == ("train", "4") and self.dies:
                raise KeyboardInterrupt
            return super().push_messages(messages)

        dies = True

    run(data, tmp_path, name="whole", num_server_rounds=6)
    config = _config_of(tmp_path / "runs" / "whole") | {"run.name": "dying"}
    with pytest.raises(KeyboardInterrupt):
        server_app(
            grid=DyingGrid(client_app, 3, config), context=Context(1, 0, {}, RecordDict(), config)
        )
    dying = tmp_path / "runs" / "dying"
    assert load_checkpoint(dying / "checkpoint").state.round == 2
    run(data, tmp_path, resume="dying", num_server_rounds=6)
    assert _curve(dying) == _curve(tmp_path / "runs" / "whole")


def test_a_finished_run_is_only_tested_again(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, name="done")
    before = json.loads((tmp_path / "runs" / "done" / "summary.json").read_text())
    run(data, tmp_path, resume="done")
    after = json.loads((tmp_path / "runs" / "done" / "summary.json").read_text())
    assert after["test"] == before["test"]
    assert [e["kind"] for e in read_history(tmp_path / "runs" / "done" / "history.jsonl")].count(
        "test"
    ) == 1


BAD_STARTS = {
    "an unknown key": (
        {"also": {"network.num-exprts": 4}},
        ConfigError,
        "unknown configuration key 'network.num-exprts'",
    ),
    "no experts": ({"num_experts": 0}, ConfigError, "num-experts must be between 1 and 64, got 0"),
    "labels through the gate": ({"gate_input": "hidden"}, ConfigError, "gate-input=hidden"),
    "no data": ({"data_dir": "/nowhere"}, ConfigError, "'/nowhere' holds no prepared dataset"),
    "an unknown dataset": ({"data_dir": "auto", "dataset": "ml-1b"}, ValueError, "unknown dataset"),
    "a taken name": ({"name": "taken"}, ConfigError, "run.name='taken' is taken"),
    "nothing to resume": ({"resume": "nothing"}, CheckpointError, "there is no run in"),
    "another configuration": (
        {"resume": "taken", "num_experts": 3},
        ConfigError,
        "made with network.num-experts=2, this run has network.num-experts=3",
    ),
    "fewer rounds than done": (
        {"resume": "taken", "num_server_rounds": 1},
        ConfigError,
        "run taken has done 4 already",
    ),
    "an unwritable folder": (
        {"home": Path("/dev/null/mrff")},
        OutputError,
        "cannot write results to",
    ),
    "too few nodes": (
        {"expected_nodes": 9},
        MissingNodesError,
        "3 of 9 expected nodes are connected after node-wait-seconds=0.5",
    ),
}


@pytest.fixture(scope="module")
def home(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run named taken."""
    folder = tmp_path_factory.mktemp("home")
    run(data, folder, name="taken")
    return folder


@pytest.mark.parametrize(("changes", "kind", "text"), BAD_STARTS.values(), ids=BAD_STARTS)
def test_bad_starts_are_one_clear_line_before_any_round(
    data: Path,
    home: Path,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    kind: type[Exception],
    text: str,
) -> None:
    before = (home / "runs" / "taken" / "history.jsonl").read_bytes()
    with pytest.raises(kind, match=text) as caught:
        run(**({"data": data, "home": home} | changes))
    stops = [r.getMessage() for r in caplog.records if r.getMessage().startswith("MRFF stopped")]
    assert stops == [f"MRFF stopped: {caught.value}"]
    assert "\n" not in stops[0]
    assert (home / "runs" / "taken" / "history.jsonl").read_bytes() == before


PRIVATE = {"mode": "central-user", "noise_multiplier": 1.0, "objective": "click"}


@pytest.mark.parametrize("changes", [{}, PRIVATE], ids=["plain", "private"])
def test_a_run_that_trains_nobody_does_not_finish(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Every user has fewer rows than the split needs; no node can tell that the others' do too."""
    write(tmp_path / "d", alternating(2, 2, 1, 2))
    with pytest.raises(RoundFailedError, match="none of the 4 users is long enough"):
        run_federation(tmp_path / "d", tmp_path, nodes=2, name="short", **changes)
    assert not (tmp_path / "runs" / "short" / "summary.json").exists()


def test_a_damaged_checkpoint_is_one_clear_line(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, name="hurt")
    newest = max((tmp_path / "runs" / "hurt" / "checkpoint").iterdir())
    (newest / "arrays.safetensors").write_bytes(b"nothing")
    history = (tmp_path / "runs" / "hurt" / "history.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="is damaged"):
        run(data, tmp_path, resume="hurt")
    assert (tmp_path / "runs" / "hurt" / "history.jsonl").read_bytes() == history


def _config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def _curve(folder: Path) -> list[tuple[Any, ...]]:
    return [
        (e["kind"], e["round"], e.get("train_loss"), e.get("auc"), e.get("log_loss"), e["loads"])
        for e in read_history(folder / "history.jsonl")
        if e["kind"] != "query"
    ]


class InMemoryGrid(LocalGrid):
    """Has the name of the grid that Flower's simulation hands to a ServerApp."""


def test_fewer_users_than_simulated_nodes_is_told_before_round_1(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"data-dir": str(data), "home": str(tmp_path), "expected-nodes": USERS + 1}
    config = full_names(settings)
    grid = InMemoryGrid(client_app, USERS + 1, config)
    with pytest.raises(DataError, match=r"between 1 and 12 \(the number of users\), got 13"):
        server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
    assert grid.pushed == 0
    assert [r.levelname for r in caplog.records].count("ERROR") == 1

"""Users too short for the split train on all they have, and nobody else is tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client_app.node import open_node
from client_app.train import train_round
from mrff.data.dataset import load_dataset
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.small_data import small_config
from tests.support.small_folders import write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three users; the second and the third are too short for a holdout of 1."""
    histories = [[(1, 1), (2, 0), (3, 1), (4, 1), (1, 0)], [(3, 1), (4, 0)], [(2, 1)]]
    write(tmp_path / "data", histories)
    return tmp_path / "data"


def test_their_rows_are_in_the_rounds_sum_and_no_held_out_one_is(
    data: Path, tmp_path: Path
) -> None:
    config = small_config(sampling_rate=1.0, local_learning_rate=1.0)
    run = RunFacts(load_dataset(data).schema.schema_hash, "t", str(data), str(tmp_path))
    request = Request(run, RoundFacts(1), {}, {})
    node = open_node(config.to_flat(), {"partition-id": 0, "num-partitions": 1}, request)
    assert node.users.tolist() == [0, 1, 2]
    assert node.tested.tolist() == [0]
    asked = Request(run, request.facts, *initial_shared(node.network))
    sums = train_round(node, asked).sums
    assert sums.number("targets") == (5 - 2) + 2 + 1
    assert sums.number("users") == 3


def test_a_run_counts_them_and_does_not_test_them(data: Path, tmp_path: Path) -> None:
    run_federation(data, tmp_path, nodes=2, name="run", sampling_rate=1.0, holdout=1)
    entries = read_history(tmp_path / "runs" / "run" / "history.jsonl")
    rounds = [entry for entry in entries if entry["kind"] == "round"]
    assert {entry["users"] for entry in rounds} == {3}
    test = next(entry for entry in entries if entry["kind"] == "test")
    assert (test["users"], test["targets"]) == (1, 1)
    summary = json.loads((tmp_path / "runs/run/summary.json").read_text())
    assert summary["skipped_users"] == 2

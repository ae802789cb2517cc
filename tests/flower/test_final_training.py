"""Final training through real Flower, and what is done with its model afterwards."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.data.windows import validation_users
from tests.support.command import watched

pytestmark = pytest.mark.slow


def test_train_on_everything_recommend_to_everybody_and_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one node, which has one worker: Flower would start one for every processor."""
    home = tmp_path / "home"
    monkeypatch.setenv("MRFF_HOME", str(home))
    prepare("synthetic", out=home / "data/synthetic", options={"users": 60})
    dataset = load_dataset(home / "data/synthetic")
    held_out = validation_users(dataset, 0.25)
    assert 0 < len(held_out) < dataset.num_users
    settings = (
        "data.dataset=synthetic", "data.holdout=0", "data.validation-users=0.25",
        "run.name=final", "server.num-server-rounds=2", "evaluation.evaluate-every=1",
        "training.sampling-rate=1.0",
    )  # fmt: skip
    words = [word for setting in settings for word in ("-c", setting)]
    run = watched("run", "--nodes", "1", *words, home=home)
    assert run.status == 0, run.log[-3000:]
    assert run.workers == 1
    assert run.reporters == set()
    assert "not tested validation AUC" in run.log
    assert "nothing is tested" in run.log
    summary = json.loads((home / "runs/final/summary.json").read_text())
    assert summary["validation_users"] == len(held_out)
    assert summary["test"] == {}

    lists, page = tmp_path / "lists.csv", tmp_path / "report.html"
    assert main(["recommend", "final", "--all-users", "--out", str(lists)]) == 0
    with lists.open(newline="") as file:
        assert {row["user_id"] for row in csv.DictReader(file)} == set(map(str, dataset.user_ids))
    trained = np.setdiff1d(np.arange(dataset.num_users), held_out)
    for row in (held_out[0], trained[0]):
        out = str(tmp_path / f"user-{row}")
        assert main(["export", "final", "--user", str(dataset.user_ids[row]), "--out", out]) == 0
    assert main(["report", "final", "--out", str(page)]) == 0
    assert "Nothing is tested" in page.read_text()

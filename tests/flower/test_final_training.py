"""Final training through real Flower, and what is done with its model afterwards."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.data.windows import validation_users

pytestmark = pytest.mark.slow


def mrff(home: Path, *words: str) -> str:
    """What the real command says, which succeeds."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mrff"), *words],
        env={**os.environ, "MRFF_HOME": str(home)}, cwd=home,
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_train_on_everything_recommend_to_everybody_and_export(tmp_path: Path) -> None:
    prepare("synthetic", out=tmp_path / "data/synthetic", options={"users": 60})
    dataset = load_dataset(tmp_path / "data/synthetic")
    held_out = validation_users(dataset, 0.25)
    assert 0 < len(held_out) < dataset.num_users
    settings = (
        "data.dataset=synthetic", "data.holdout=0", "data.validation-users=0.25",
        "run.name=final", "server.num-server-rounds=2", "evaluation.evaluate-every=1",
        "training.sampling-rate=1.0",
    )  # fmt: skip
    words = [word for setting in settings for word in ("-c", setting)]
    said = mrff(tmp_path, "run", "--nodes", "2", *words)
    assert "not tested validation AUC" in said
    assert "nothing is tested" in said
    summary = json.loads((tmp_path / "runs/final/summary.json").read_text())
    assert summary["validation_users"] == len(held_out)
    assert summary["test"] == {}
    mrff(tmp_path, "recommend", "final", "--all-users", "--out", str(tmp_path / "lists.csv"))
    with (tmp_path / "lists.csv").open(newline="") as file:
        assert {row["user_id"] for row in csv.DictReader(file)} == set(map(str, dataset.user_ids))
    trained = np.setdiff1d(np.arange(dataset.num_users), held_out)
    for row in (held_out[0], trained[0]):
        user = str(dataset.user_ids[row])
        mrff(tmp_path, "export", "final", "--user", user, "--out", str(tmp_path / f"user-{row}"))
    assert "Nothing is tested" in Path(_report(tmp_path)).read_text()


def _report(home: Path) -> str:
    mrff(home, "report", "final", "--out", str(home / "report.html"))
    return str(home / "report.html")

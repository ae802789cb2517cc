"""Events without labels, from a CSV to lists, through Flower's simulation with default settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mrff.data.prepare import prepare
from tests.support.events import plays

MRFF = Path(sys.executable).parent / "mrff"
pytestmark = pytest.mark.slow


def mrff(*arguments: object, home: Path) -> str:
    """What the installed command says on standard output; it must succeed."""
    done = subprocess.run(
        [str(MRFF), *map(str, arguments)],
        env={**os.environ, "MRFF_HOME": str(home)}, cwd=home.parent,
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_comparison_on_events_ranks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare("csv", source=plays(tmp_path, users=30), out=home / "data" / "plays")
    (tmp_path / "grid.toml").write_text(
        'methods = ["mrff", "fedadam"]\ndatasets = ["plays"]\n'
        "[settings]\nnum-server-rounds = 2\nevaluate-every = 1\nwindow-length = 16\n"
        "[statistics]\nresamples = 100\nmin-users = 10\n"
    )
    said = mrff("compare", tmp_path / "grid.toml", home=home)
    assert "NDCG@10" in said
    results = pd.read_csv(home / "comparisons" / "grid" / "results.csv")
    assert results["status"].tolist() == ["finished"] * 2
    assert (results["ndcg10"] > 0).all()
    assert results["auc"].isna().all()


def test_a_csv_of_events_is_trained_and_answers_with_what_comes_next(tmp_path: Path) -> None:
    home = tmp_path / "home"
    described = plays(tmp_path, songs=80)
    assert "120 users" in mrff("data", "prepare", "csv", "--from", described, home=home)
    floor = json.loads(mrff("data", "describe", "plays", "--json", home=home))["users"]["lists"][1]
    assert floor["part"] == "test"

    said = mrff("run", "--nodes", 2, "-c", "dataset=plays", "-c", "run.name=first", home=home)
    last = re.search(r"test hr10 ([01]\.\d{4}) ndcg10 (0\.\d{4}) best-round \d+", said)
    assert last, said[-2000:]
    summary = json.loads((home / "runs/first/summary.json").read_text())
    assert summary["rounds"] == 100
    test = summary["test"]
    assert float(last[2]) == pytest.approx(test["ndcg10"], abs=1e-4)
    assert "auc" not in test
    assert test["repeated_share"] > 0.2
    assert test["hr10"] > 1.5 * floor["hr10"]  # the song after this one, or this one again
    assert test["ndcg10"] > 1.5 * floor["ndcg10"]
    config = json.loads((home / "runs/first/config.json").read_text())
    assert config["training.objective"] == "next"

    answer = json.loads(mrff("recommend", "first", "--user", "u7", "--json", home=home))
    assert len(answer["items"]) == 10
    page = tmp_path / "report.html"
    mrff("report", "first", "--out", page, home=home)
    assert "NDCG@10" in page.read_text()

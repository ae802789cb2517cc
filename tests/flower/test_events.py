"""Events without labels, from a CSV to lists, through Flower's simulation with default settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mrff.cli.main import main
from mrff.data.prepare import prepare
from tests.support.command import mrff
from tests.support.events import plays

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_comparison_on_events_ranks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare("csv", source=plays(tmp_path, users=30), out=home / "data" / "plays")
    (tmp_path / "grid.toml").write_text(
        'methods = ["mrff", "popularity"]\ndatasets = ["plays"]\n'
        "[settings]\nnum-server-rounds = 2\nevaluate-every = 1\nwindow-length = 16\n"
        "[statistics]\nresamples = 100\nmin-users = 10\n"
    )
    done = mrff("compare", tmp_path / "grid.toml", home=home)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "NDCG@10" in done.stdout
    results = pd.read_csv(home / "comparisons" / "grid" / "results.csv")
    assert results["status"].tolist() == ["finished"] * 2
    assert (results["ndcg10"] > 0).all()
    assert results["auc"].isna().all()


def test_a_csv_of_events_is_trained_and_answers_with_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, page = tmp_path / "home", tmp_path / "report.html"
    monkeypatch.setenv("MRFF_HOME", str(home))

    def said(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    described = plays(tmp_path, songs=80)
    assert "120 users" in said("data", "prepare", "csv", "--from", str(described))
    floor = json.loads(said("data", "describe", "plays", "--json"))["users"]["lists"][1]
    assert floor["part"] == "test"

    run = mrff("run", "--nodes", 2, "-c", "dataset=plays", "-c", "run.name=first", home=home)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    last = re.search(r"test hr10 ([01]\.\d{4}) ndcg10 (0\.\d{4}) best-round \d+", run.stdout)
    assert last, run.stdout[-2000:]
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

    answer = json.loads(said("recommend", "first", "--user", "u7", "--json"))
    assert len(answer["items"]) == 10
    said("report", "first", "--out", str(page))
    assert "NDCG@10" in page.read_text()

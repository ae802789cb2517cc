"""What a run's test says of lists and of ranks among drawn items, through the real rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.kept_scores import FILE, read_scores
from mrff.data.dataset import load_dataset
from server_app.run.history import read_history
from server_app.run.results import final_line, print_table
from tests.support.federation import run_federation


def run(data: Path, home: Path, name: str, *, nodes: int = 3, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"objective": "next", "keep_test_scores": True, **changes}
    run_federation(data, home, nodes=nodes, name=name, **settings)
    summary: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())
    return summary


def test_coverage_and_popularity_are_those_of_the_lists_that_nodes_kept(
    small_data: Path, tmp_path: Path
) -> None:
    test = run(small_data, tmp_path, "silos")["test"]
    kept = read_scores(sorted((tmp_path / "state" / "silos").rglob(FILE)))
    assert kept.ranks is not None
    listed = kept.ranks.listed[kept.ranks.listed > 0]
    dataset = load_dataset(small_data)
    items = dataset.schema.num_items
    assert test["coverage10"] == pytest.approx(len(np.unique(listed)) / items)
    counts = np.zeros(items + 1)
    for user in range(dataset.num_users):
        rows = slice(dataset.offsets[user], dataset.offsets[user + 1] - 2)
        counts += np.bincount(dataset.items[rows], minlength=items + 1)
    assert test["popularity10"] == pytest.approx(counts[listed].mean() / counts[1:].mean())
    alone = run(small_data, tmp_path, "alone", nodes=1)["test"]
    assert alone["coverage10"] == test["coverage10"]
    assert alone["popularity10"] == pytest.approx(test["popularity10"])


def test_ranks_among_drawn_items_are_marked_wherever_they_are_shown(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = run(small_data, tmp_path, "full")
    drawn = run(small_data, tmp_path, "drawn", ranking_candidates=3)
    assert full["ranking_candidates"] is None
    assert drawn["test"]["candidates"] == 4
    assert drawn["test"]["hr5"] == 1.0  # of four
    assert drawn["test"]["coverage10"] == full["test"]["coverage10"]
    mark = "among 3 drawn items, not all"
    capsys.readouterr()  # runs print their tables as well
    print_table(drawn)
    print_table(full)
    said = capsys.readouterr().out
    assert said.count(mark) == 1
    assert mark in final_line(drawn)
    assert "drawn" not in final_line(full)
    entries = read_history(tmp_path / "runs" / "drawn" / "history.jsonl")
    assert {e["drawn"] for e in entries if e["kind"] == "validation"} == {3}
    again = run(small_data, tmp_path, "again", nodes=2, ranking_candidates=3)
    assert again["test"]["ndcg1"] == pytest.approx(drawn["test"]["ndcg1"])


def test_a_private_run_counts_no_lists(small_data: Path, tmp_path: Path) -> None:
    run_federation(
        small_data, tmp_path, nodes=2, name="private", objective="both", mode="central-user",
        epsilon_budget=50.0, delta=0.01,
    )  # fmt: skip
    test = json.loads((tmp_path / "runs" / "private" / "summary.json").read_text())["test"]
    assert "listed" not in test
    assert test.get("coverage10") is None


def test_of_impressions_the_last_liked_row_is_held_out_and_users_without_are_counted(
    small_data: Path, tmp_path: Path
) -> None:
    changes = {"targets": "liked", "linear_items": 15, "holdout": 3}
    run(small_data, tmp_path, "liked", **changes)
    kept = read_scores(sorted((tmp_path / "state" / "liked").rglob(FILE)))
    summary = json.loads((tmp_path / "runs" / "liked" / "summary.json").read_text())
    dataset = load_dataset(small_data)
    likes, enough = {}, 0
    for user in range(dataset.num_users):
        rows = slice(dataset.offsets[user], dataset.offsets[user + 1])
        likes[dataset.user_keys[user]] = int(dataset.labels[rows].sum())
        liked = np.flatnonzero(dataset.labels[rows])
        enough += len(liked) >= 6 and liked[-6] > 0
    assert 0 < enough < dataset.num_users
    assert summary["test_users"] == enough == len(kept.user_keys)
    assert summary["skipped_users"] == dataset.num_users - enough
    assert all(likes[key] >= 6 for key in kept.user_keys)
    assert kept.ranks is not None
    assert kept.labels.all()
    assert kept.ranks.counts.all()
    alone = run(small_data, tmp_path, "alone", nodes=1, **changes)
    assert alone["test"]["ndcg50"] == pytest.approx(summary["test"]["ndcg50"])

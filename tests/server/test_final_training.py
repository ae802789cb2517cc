"""Whole runs of final training: what they leave says plainly that nothing was tested."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mrff.experiments.reports.run_page import run_page
from mrff.ops.lists import AllUsers
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import answer
from mrff.ops.trained_run import RunError, find_run, load_best
from mrff.ops.user_model import open_user
from mrff.ops.wish import Wish
from mrff.wire.aggregation import RoundFailedError
from server_app.run.history import read_history
from server_app.run.results import final_line, print_table
from tests.support.federation import run_federation, shared_arrays


def final(data: Path, home: Path, name: str, *, nodes: int = 2, **changes: Any) -> dict[str, Any]:
    """The summary of a run without a test."""
    settings = {"holdout": 0, "validation_users": 0.5, **changes}
    run_federation(data, home, nodes=nodes, name=name, **settings)
    summary: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())
    return summary


def kinds(home: Path, name: str) -> set[str]:
    return {entry["kind"] for entry in read_history(home / "runs" / name / "history.jsonl")}


@pytest.mark.parametrize("objective", ["click", "next", "both"])
def test_a_run_validates_by_users_and_says_that_nothing_is_tested(
    small_data: Path, tmp_path: Path, objective: str
) -> None:
    summary = final(small_data, tmp_path, "run", objective=objective)
    assert kinds(tmp_path, "run") == {"round", "validation"}
    assert summary["test"] == {}
    assert "data.holdout=0" in summary["untested"]
    assert 0 < summary["validation_users"] < 15
    assert final_line(summary).startswith("not tested validation ")
    text = io.StringIO()
    print_table(summary, Console(file=text, width=200))
    assert "nothing is tested" in text.getvalue()
    assert "users, targets" not in text.getvalue()


def test_a_run_whose_test_is_not_wanted_says_so_and_misses_no_node(
    small_data: Path, tmp_path: Path
) -> None:
    summary = final(small_data, tmp_path, "run", holdout=1, score_test=False)
    assert kinds(tmp_path, "run") == {"round", "validation"}
    assert summary["untested"] == "nothing is tested with evaluation.score-test=false"
    assert (summary["test"], summary["nodes_missing"]) == ({}, {})
    text = io.StringIO()
    print_table(summary, Console(file=text, width=200))
    assert "evaluation.score-test=false" in text.getvalue()
    assert "MISSING" not in text.getvalue()


def test_the_layout_of_nodes_changes_nothing(small_data: Path, tmp_path: Path) -> None:
    one, other = (final(small_data, tmp_path, f"on{n}", nodes=n) for n in (1, 5))
    assert one["validation_users"] == other["validation_users"]
    assert one["validation_auc"] == pytest.approx(other["validation_auc"], abs=1e-5)
    others = shared_arrays(tmp_path, "on5")
    for name, array in shared_arrays(tmp_path, "on1").items():
        np.testing.assert_allclose(array, others[name], atol=1e-5)


@pytest.mark.parametrize("mode", ["central-user", "laplace", "local-dp-sgd"])
def test_a_private_run_takes_its_last_round_and_charges_no_test(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    private = {"mode": mode, "noise_multiplier": 1.0, "clipping_norm": 0.1, "sampling_rate": 0.6}
    summary = final(small_data, tmp_path, "private", **private)
    assert kinds(tmp_path, "private") == {"round"}
    assert summary["best_round"] == summary["rounds"] == 3
    assert "tested or validated" in summary["untested"]
    assert final_line(summary) == "not tested best-round 3"


def test_linear_models_are_fitted_and_mixed_by_validation(small_data: Path, tmp_path: Path) -> None:
    final(small_data, tmp_path, "run", objective="next", linear_items=10)
    assert kinds(tmp_path, "run") == {"round", "validation", "query"}
    assert (tmp_path / "runs/run/best").is_dir()


@pytest.mark.parametrize("algorithm", ["fedmf", "pfedrec"])
def test_rivals_that_factorise_do_it_too(small_data: Path, tmp_path: Path, algorithm: str) -> None:
    summary = final(small_data, tmp_path, "run", objective="next", algorithm=algorithm)
    assert summary["test"] == {}
    assert summary["validation_ndcg10"] is not None


def test_everybody_gets_a_list_held_out_users_by_the_shared_model(
    small_data: Path, tmp_path: Path
) -> None:
    final(small_data, tmp_path, "run", sampling_rate=1.0)
    nodes = NodesAtHand(load_best(find_run(str(tmp_path / "runs/run"))))
    found = [name for lists in AllUsers(nodes, Wish(3)).lists() for name in lists.users]
    assert len(found) == 15
    own = {str(u): open_user(nodes, str(u)) for u in found}
    trained = {user: model.has_own for user, model in own.items()}
    assert set(trained.values()) == {True, False}
    for model in own.values():
        titles = ["", *(f"item {n}" for n in range(1, 100))]
        assert len(answer(model, titles, Wish(3), explain=False)["items"]) == 3


def test_there_is_no_before_the_test(small_data: Path, tmp_path: Path) -> None:
    final(small_data, tmp_path, "run")
    nodes = NodesAtHand(load_best(find_run(str(tmp_path / "runs/run"))))
    with pytest.raises(RunError, match="leave --before-test out"):
        open_user(nodes, "1", before_test=True)
    with pytest.raises(RunError, match="leave --before-test out"):
        list(AllUsers(nodes, Wish(3), before_test=True).lists())


def test_the_report_says_it(small_data: Path, tmp_path: Path) -> None:
    final(small_data, tmp_path, "run")
    page = run_page(str(tmp_path / "runs/run"), data_dir=None, state_dir=None)
    assert "not tested" in page
    assert "Nothing is tested" in page


def test_a_run_goes_on_and_is_told_what_the_earlier_one_saw(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    final(small_data, tmp_path, "first")
    start = {"start_from": "first"}
    final(small_data, tmp_path, "again", **start)
    assert "too good" not in caplog.text
    run_federation(small_data, tmp_path, nodes=2, name="tested", holdout=1, **start)
    assert "trained on rows that this run holds out" in caplog.text


def test_it_is_resumed(small_data: Path, tmp_path: Path) -> None:
    whole = final(
        small_data, tmp_path, "whole", num_server_rounds=4, evaluate_every=1, server_decay_rounds=4
    )
    final(small_data, tmp_path, "cut", num_server_rounds=2, evaluate_every=1, server_decay_rounds=4)
    resumed = {"num_server_rounds": 4, "evaluate_every": 1, "server_decay_rounds": 4}
    run_federation(
        small_data,
        tmp_path,
        nodes=2,
        name="",
        resume="cut",
        holdout=0,
        validation_users=0.5,
        **resumed,
    )
    summary = json.loads((tmp_path / "runs/cut/summary.json").read_text())
    assert summary["validation_auc"] == whole["validation_auc"]
    assert summary["untested"]


def test_nobody_to_hold_out_is_refused_with_the_way_out(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(RoundFailedError, match=r"larger data\.validation-users"):
        final(small_data, tmp_path, "run", validation_users=1e-9)

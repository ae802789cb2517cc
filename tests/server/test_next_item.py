"""Whole runs that learn which item comes next, through the real apps and serialised messages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays


def run(data: Path, home: Path, name: str, *, nodes: int = 2, **changes: Any) -> dict[str, Any]:
    """The summary of a run."""
    run_federation(data, home, nodes=nodes, name=name, **{"objective": "next", **changes})
    summary: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())
    return summary


def test_a_run_chooses_and_tests_by_rank(small_data: Path, tmp_path: Path) -> None:
    summary = run(small_data, tmp_path, "next")
    assert summary["best_by"] == "ndcg10"
    test = summary["test"]
    assert 0 <= test["ndcg10"] <= test["hr10"] <= test["hr20"] <= test["hr50"] == 1.0
    assert 1 < test["candidates"] <= 20
    assert "auc" not in test
    (last,) = [e for e in read_history(tmp_path / "runs/next/history.jsonl") if e["kind"] == "test"]
    assert last["ndcg10"] == test["ndcg10"]


@pytest.mark.parametrize("drawn", [{}, {"full_softmax_items": 5, "drawn_items": 8}])
def test_the_layout_of_nodes_changes_nothing(
    small_data: Path, tmp_path: Path, drawn: dict[str, int]
) -> None:
    one, other = (
        run(small_data, tmp_path, name, nodes=nodes, dropout=0.2, **drawn)
        for name, nodes in (("one", 1), ("other", 5))
    )
    arrays, others = (shared_arrays(tmp_path, name) for name in ("one", "other"))
    for name, array in arrays.items():
        np.testing.assert_allclose(array, others[name], atol=1e-5, err_msg=name)
    assert one["test"]["hr10"] == pytest.approx(other["test"]["hr10"])


@pytest.mark.parametrize(
    "method",
    [
        {"clusters": 2, "num_experts": 1},
        {"private_parameters": "head"},
        {"private_parameters": "all", "backbone": "hstu"},
        {"local_steps": 2, "backbone": "linear", "proximal_weight": 0.1},
    ],
    ids=["ifca", "fedper", "local-only", "fedprox"],
)
def test_rivals_learn_it_too_on_any_layout(
    small_data: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    one, other = (
        run(small_data, tmp_path, f"on-{nodes}", nodes=nodes, drawn_items=8, **method)
        for nodes in (1, 3)
    )
    assert one["test"]["hr5"] == pytest.approx(other["test"]["hr5"])
    assert one["test_users"] == 15


def test_both_measures_both(small_data: Path, tmp_path: Path) -> None:
    summary = run(small_data, tmp_path, "both", objective="both")
    assert summary["best_by"] == "auc_ndcg10"
    assert summary["test"]["auc"] is not None
    assert summary["test"]["ndcg10"] is not None


@pytest.mark.parametrize("mode", ["central-user", "laplace", "local-dp-sgd"])
def test_private_modes_learn_the_next_item_and_measure_ranks_inside_the_guarantee(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    private = {"mode": mode, "noise_multiplier": 1.0, "clipping_norm": 0.1, "sampling_rate": 0.6}
    summary = run(small_data, tmp_path, mode, **private)
    measured = {name for name, value in summary["test"].items() if value is not None}
    assert measured <= {"hr10", "ndcg10"}  # noise may leave nothing that was ranked
    assert summary["best_round"] == summary["rounds"] == 3


def test_in_private_modes_both_choose_by_clicks_alone(small_data: Path, tmp_path: Path) -> None:
    private = {"mode": "central-user", "noise_multiplier": 1.0, "clipping_norm": 0.1}
    summary = run(small_data, tmp_path, "private", objective="both", **private)
    assert summary["best_by"] == "auc"
    assert summary["test"]["auc_ndcg10"] is None


def test_a_gate_that_reads_what_is_to_be_predicted_is_refused(
    small_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"gate-input=history cannot go with .*objective=next"):
        run(small_data, tmp_path, "leak", gate_input="history")

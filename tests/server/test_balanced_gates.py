"""Whole runs whose gates follow the loads: what the rounds' reports say of the experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays

ROUNDS = 40


def final_loads(data: Path, home: Path, *, nodes: int = 1, **changes: Any) -> np.ndarray:
    """(layers, K) mean shares of users in the last ten rounds."""
    run_federation(
        data, home, nodes=nodes, name="run", num_server_rounds=ROUNDS, evaluate_every=ROUNDS,
        server_final_rate=1.0, **changes,
    )  # fmt: skip
    reports = read_history(home / "runs/run/history.jsonl")
    rounds = [report["loads"] for report in reports if report["kind"] == "round"]
    return np.mean(rounds[-10:], axis=0)


def test_experts_without_users_come_back(small_data: Path, tmp_path: Path) -> None:
    alone = final_loads(small_data, tmp_path / "alone", balance_rate=0.0)
    assert alone.min() < 0.02  # what this is for: gates by themselves leave experts without users
    balanced = final_loads(small_data, tmp_path / "balanced", balance_rate=0.1)
    assert balanced.min() > 0.05, balanced


def test_the_number_of_nodes_changes_nothing(small_data: Path, tmp_path: Path) -> None:
    for nodes in (1, 3):
        final_loads(small_data, tmp_path / str(nodes), nodes=nodes, balance_rate=0.1)
    one, three = (shared_arrays(tmp_path / str(nodes), "run") for nodes in (1, 3))
    for name, array in one.items():
        np.testing.assert_allclose(array, three[name], atol=2e-4, err_msg=name)


@pytest.mark.parametrize("method", [{"num_experts": 1}, {"num_experts": 1, "clusters": 3}])
def test_where_there_is_nothing_to_balance_a_run_is_the_same(
    small_data: Path, tmp_path: Path, method: dict[str, int]
) -> None:
    for rate in (0.0, 0.5):
        run_federation(
            small_data, tmp_path / str(rate), nodes=1, name="run", balance_rate=rate, **method
        )
    without, balanced = (shared_arrays(tmp_path / str(rate), "run") for rate in (0.0, 0.5))
    for name, array in without.items():
        np.testing.assert_array_equal(array, balanced[name], err_msg=name)

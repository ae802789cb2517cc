"""Whole runs with more experts per layer than users: most groups have nobody, then or later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.ops.trained_run import read_json
from mrff_model.building import build_network, initial_shared
from server_app.run.history import read_history
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_folders import alternating, write

USERS, EXPERTS, LAYERS = 5, 12, 2
EVIDENCE = {"gate_mode": "evidence", "user_network_dim": "off"}


@pytest.mark.parametrize("changes", [{}, EVIDENCE], ids=["switch", "evidence"])
def test_experts_without_users_stay_as_they_began(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = tmp_path / "data"
    write(data, alternating(*[9] * USERS))
    run_federation(
        data, tmp_path, nodes=2, name="run", num_experts=EXPERTS, num_layers=LAYERS,
        sampling_rate=1.0, expert_pooling=0.0, balance_rate=0.0, **changes,
    )  # fmt: skip
    run = tmp_path / "runs" / "run"
    reports = read_history(run / "history.jsonl")
    loads = np.array([report["loads"] for report in reports if report["kind"] == "round"])
    chosen = (loads > 0).any(0)  # (layers, K)
    assert chosen.any(-1).all()
    assert not chosen.all(-1).any(), "with every expert chosen nothing is shown"
    summary = read_json(run / "summary.json")
    assert summary["test_users"] == USERS
    assert np.isfinite(summary["test"]["log_loss"])

    began, ended = group_arrays_at_first(run, data), shared_arrays(tmp_path, "run")
    assert len(began) == 4 * LAYERS * EXPERTS
    moved = np.zeros_like(chosen)
    for name, first in began.items():
        _, layer, _, expert, _ = name.split(".")
        moved[int(layer), int(expert)] |= not np.array_equal(first, ended[name])
    np.testing.assert_array_equal(moved, chosen)


def group_arrays_at_first(run: Path, data: Path) -> dict[str, np.ndarray]:
    """Experts as the run began with them."""
    config = RunConfig.from_flat(read_json(run / "config.json"))
    dataset = load_dataset(data)
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    return initial_shared(network, experts_alike=config.pools_experts)[1]

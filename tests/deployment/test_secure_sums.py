"""Secure sums over TLS: a node is killed in every stage, and nothing is lost or opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.data.shard import shard
from mrff.wire.aggregation.secure.messages import KEYS, SHARES, UNMASK
from mrff.wire.aggregation.secure.state import OPENED, SESSIONS
from server_app.run.checkpoint import load_checkpoint
from tests.support.deployment import Federation, Values, wait_for_request
from tests.support.federation import run_federation, shared_arrays

pytestmark = pytest.mark.slow

KILLED_IN = (KEYS, SHARES, "train", UNMASK)
SETTINGS: Values = {
    "num_server_rounds": 4, "evaluate_every": 4, "sampling_rate": 0.2,
    "server_optimizer": "average", "num_experts": 1, "score_test": False,
}  # fmt: skip


@pytest.mark.long
def test_a_node_killed_in_each_stage_costs_its_own_sum_and_nothing_else(
    tmp_path: Path, ml_100k: Path
) -> None:
    """Node n in round n + 1. The others' sum is opened where they had it, and only there."""
    shard(ml_100k, tmp_path / "shards", 4)
    with Federation(tmp_path, tmp_path / "shards", nodes=4) as federation:
        for node in range(4):
            federation.start_node(node)
        run = federation.submit(
            name="secure", secure_aggregation=True, reply_timeout_seconds=60.0, **SETTINGS
        )
        for node, stage in enumerate(KILLED_IN):
            wait_for_request(federation, f"node-{node}", stage, node + 1)
            federation.kill(f"node-{node}")
            federation.wait_until_online(node)
        federation.completes(run, 600)
        rounds, history = federation.rounds("secure"), federation.history("secure")
        states = [federation.state(node) for node in range(4)]
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
    # A node that sent its vector before it was killed is in the sum, its mask is rebuilt; one that
    # comes back in time is asked again.
    assert all(entry["replies"] in (2, 3, 4) for entry in rounds)
    validated = [entry for entry in history if entry["kind"] == "validation"]
    assert [entry["replies"] >= 3 for entry in validated] == [True]
    for state in states:
        with sqlite3.connect(next(state.rglob(SESSIONS))) as database:
            assert database.execute("SELECT COUNT(*) FROM secrets").fetchone() == (0,)
        assert (state / OPENED).exists()
    arrays = load_checkpoint(federation.home / "runs/secure/checkpoint").state.public
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_real_nodes_give_the_model_of_plain_sums(tmp_path: Path, ml_100k: Path) -> None:
    """Two rounds over TLS, and the same rounds without masks in one process."""
    shard(ml_100k, tmp_path / "shards", 3)
    settings: dict[str, Any] = {**SETTINGS, "num_server_rounds": 2, "evaluate_every": 2}
    with Federation(tmp_path, tmp_path / "shards", nodes=3) as federation:
        for node in range(3):
            federation.start_node(node)
        run = federation.submit(name="secure", secure_aggregation=True, **settings)
        federation.completes(run, 1200)
        state = load_checkpoint(federation.home / "runs/secure/checkpoint").state
        assert [entry["replies"] for entry in federation.rounds("secure")] == [3, 3]
    run_federation(
        ml_100k, tmp_path / "home", nodes=3, name="plain",
        feature_dim="auto", window_length=65, checkpoint_every=1, **settings,
    )  # fmt: skip
    plain = shared_arrays(tmp_path / "home", "plain")
    for name, array in {**state.public, **state.group}.items():
        np.testing.assert_allclose(array, plain[name], atol=1e-5, err_msg=name)

"""Clustered learning finds groups that were planted, through real messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from sklearn.metrics import adjusted_rand_score

from client_app.learners import Cohort, SharedModel
from client_app.learners.cohort import CohortLearner
from mrff.algorithms.clusters import ClusterLearner
from mrff.config import RunConfig
from mrff.config.methods import overrides_of
from mrff.data.dataset import load_dataset
from mrff.data.prepare import prepare
from mrff.data.windows import eligible_users
from server_app.run.history import read_history
from tests.support.federation import run_federation
from tests.support.small_data import small_network

LEAST = 0.3  # adjusted Rand index; 0 is chance. Seen with seeds 0, 1, 2: 0.94 each


@pytest.mark.slow
def test_copies_agree_with_the_planted_groups(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    data = tmp_path / "synthetic"
    prepare("synthetic", out=data, options={})
    settings: dict[str, Any] = {"feature-dim": 8, "window-length": 65, "sampling-rate": 0.2}
    settings |= {"num-server-rounds": 40, "evaluate-every": 10, "seed": 0}
    flat = overrides_of("ifca", settings)
    run_federation(data, tmp_path, nodes=1, name="planted", **flat)

    chosen, truth = final_copies(tmp_path, data, flat)
    agreement = adjusted_rand_score(truth, chosen)
    shuffled = adjusted_rand_score(np.random.default_rng(0).permutation(truth), chosen)
    record_property("adjusted_rand_index", agreement)
    print(f"adjusted Rand index {agreement}, of shuffled groups {shuffled}")
    assert agreement > LEAST
    assert abs(shuffled) < 0.02
    test = read_history(tmp_path / "runs/planted/history.jsonl")[-1]
    assert test["auc"] > 0.75  # user x item rate: 0.712, the true logit: 0.856


def final_copies(home: Path, data: Path, flat: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Everybody's copy under the best model (U,), and the planted groups (U,)."""
    config, dataset = RunConfig.from_flat(flat), load_dataset(data)
    (model,) = (home / "runs/planted/best").glob("model-round-*.safetensors")
    users = eligible_users(dataset, holdout=1)
    cohort = Cohort(dataset, users, {}, np.full((len(users), 1), -1))
    learner = CohortLearner(small_network(config, dataset), config)
    copies = SharedModel(0, {}, load_file(model))
    scored = ClusterLearner(learner, config.network.clusters or 0).score(copies, cohort, "valid")
    table = pq.read_table(data / "truth.parquet").to_pandas().set_index("user_id")
    return scored.routes[:, 0], table.loc[dataset.user_ids[users]]["group"].to_numpy()

"""The batched scorer says what the serial one says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client_app import cohort_evaluation
from client_app.cohort_chunks import ChunkLimits
from client_app.cohort_evaluation import score_cohort
from client_app.evaluation import Part, score_serially
from client_app.training import Cohort
from mrff_model.building import tensors_of
from tests.support.small_data import small_config, small_dataset, small_network


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("positions", [1, 40, 8192])
@pytest.mark.parametrize("holdout", [1, 3])
def test_scores_equal_those_of_users_alone(
    part: Part, positions: int, holdout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = small_config(holdout=holdout), small_dataset((9, 7, 30, 12, 11, 8))
    network = small_network(config, dataset)
    users = np.array([4, 0, 2, 1])
    random = torch.Generator().manual_seed(1)
    private = {
        name: torch.randn(len(users), *value.shape[1:], generator=random)
        for name, value in tensors_of(network, "private").items()
    }
    cohort = Cohort(dataset, users, private)
    one_at_a_time = score_serially(network, cohort, data=config.data, part=part)
    limits = ChunkLimits(positions, memory=2**30, memory_per_position=0, memory_per_user=1)
    monkeypatch.setattr(cohort_evaluation, "LIMITS", limits)
    together = score_cohort(network, cohort, data=config.data, part=part)
    assert together.logits.shape == (4, holdout)
    np.testing.assert_allclose(together.logits, one_at_a_time.logits, atol=1e-5)
    assert together.labels.tolist() == one_at_a_time.labels.tolist()
    assert together.routes.tolist() == one_at_a_time.routes.tolist()

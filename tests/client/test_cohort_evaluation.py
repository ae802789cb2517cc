"""The batched scorer says what the serial one says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client_app.learners import Cohort
from client_app.learners import cohort as cohort_learner
from client_app.learners.chunks import ChunkLimits
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from mrff.wire.requests import Part
from mrff_model.building import tensors_of
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import model_of


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("positions", [1, 40, 8192])
@pytest.mark.parametrize(("holdout", "gate_mode"), [(1, "switch"), (3, "switch"), (3, "evidence")])
def test_scores_equal_those_of_users_alone(
    part: Part, positions: int, holdout: int, gate_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(holdout=holdout, gate_mode=gate_mode)
    dataset = small_dataset((9, 7, 30, 12, 11, 8))
    network = small_network(config, dataset)
    users = np.array([4, 0, 2, 1])
    random = torch.Generator().manual_seed(1)
    private = {
        name: torch.randn(len(users), *value.shape[1:], generator=random)
        for name, value in tensors_of(network, "private").items()
    }
    before = np.array([[0, 1], [-1, -1], [2, 2], [1, 0]])
    model, cohort = model_of(network), Cohort(dataset, users, private, before)
    one_at_a_time = SerialLearner(network, config).score(model, cohort, part)
    limits = ChunkLimits(positions, memory=2**30, memory_per_position=0, memory_per_user=1)
    monkeypatch.setattr(cohort_learner, "READING", limits)
    together = CohortLearner(network, config).score(model, cohort, part)
    assert together.logits.shape == (4, holdout)
    np.testing.assert_allclose(together.logits, one_at_a_time.logits, atol=1e-5)
    assert together.labels.tolist() == one_at_a_time.labels.tolist()
    assert together.routes.tolist() == one_at_a_time.routes.tolist()
    assert together.before.tolist() == one_at_a_time.before.tolist() == before.tolist()

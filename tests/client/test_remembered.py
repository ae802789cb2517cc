"""Numbers that heads read are computed once, and are those of these rows and these statistics."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners import Cohort, Trained, remembered
from client_app.learners.cohort import CohortLearner
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.metrics.metric import Scored
from mrff_model.batch import Batch
from mrff_model.network import MRFFNetwork
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import (
    EVERYBODY,
    SIZES,
    assert_same,
    cohort_of,
    model_of,
    network_of,
    train,
)

INPUTS: dict[str, Any] = {
    "item_statistics": True, "closed_form_factors": 3, "max_windows_per_user": "all",
    "window_length": 8, "dropout": 0.2,
}  # fmt: skip


class World:
    """A network that counts for how many users it has computed what heads read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.config: RunConfig = small_config(**{**INPUTS, **changes})
        self.dataset = small_dataset(SIZES)
        self.network = network_of(self.config, self.dataset)
        statistics = self.network.item_statistics
        assert statistics is not None
        with torch.no_grad():
            statistics.rates.copy_(torch.rand_like(statistics.rates).cumsum(-1) * 5)
            statistics.vectors.normal_(std=0.3)
        self.computed, inner = 0, MRFFNetwork.rates_of

        def counting(network: MRFFNetwork, batch: Batch) -> list[torch.Tensor]:
            self.computed += len(batch.items)
            return inner(network, batch)

        monkeypatch.setattr(MRFFNetwork, "rates_of", counting)

    def newly(self) -> int:
        """For how many since it was asked last."""
        computed, self.computed = self.computed, 0
        return computed

    def cohort(self, users: np.ndarray = EVERYBODY, dataset: Dataset | None = None) -> Cohort:
        return cohort_of(dataset or self.dataset, self.network, users)

    def trained(self, cohort: Cohort, *, anew: bool = False) -> Trained:
        """A round; ``anew``: by a network that remembers nothing."""
        network = deepcopy(self.network) if anew else self.network
        learner = CohortLearner(network, self.config)
        return train(learner, self.config, model_of(self.network), cohort)

    def scored(self, cohort: Cohort, part: Any, *, anew: bool = False) -> Scored:
        network = deepcopy(self.network) if anew else self.network
        return CohortLearner(network, self.config).score(model_of(self.network), cohort, part)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"private_parameters": "head", "num_experts": 1}])
def test_each_user_is_computed_once(
    monkeypatch: pytest.MonkeyPatch, steps: int, changes: dict[str, Any]
) -> None:
    """Whoever comes with others later is known by then, in another chunk as well."""
    world = World(monkeypatch, local_steps=steps, **changes)
    some = world.cohort(np.array([0, 2, 4]))
    assert_same(world.trained(some), world.trained(some, anew=True))
    assert world.newly() == 3 + 3
    everybody = world.cohort()
    found = world.trained(everybody)
    assert world.newly() == len(SIZES) - 3
    assert_same(found, world.trained(everybody, anew=True))
    world.newly()
    assert_same(found, world.trained(everybody))
    assert world.newly() == 0


def test_parts_of_the_split_are_not_mixed_up(world: World) -> None:
    cohort = world.cohort()
    world.trained(cohort)
    for part in ("valid", "test", "valid"):
        found = world.scored(cohort, part)
        np.testing.assert_allclose(
            found.logits, world.scored(cohort, part, anew=True).logits, rtol=1e-5
        )
    world.newly()
    world.scored(cohort, "test")
    assert world.newly() == 0


def test_other_rows_under_the_same_keys_are_computed_anew(world: World) -> None:
    world.trained(world.cohort())
    labels = world.dataset.labels.copy()
    first = world.dataset.offsets[3]
    labels[first] = 1 - labels[first]
    other = world.cohort(dataset=replace(world.dataset, labels=labels))
    world.newly()
    found = world.trained(other)
    assert world.newly() == 1
    assert_same(found, world.trained(other, anew=True))
    ends = world.cohort(dataset=replace(world.dataset, trains=EVERYBODY != 3))
    world.newly()
    assert_same(world.trained(ends), world.trained(ends, anew=True))
    assert world.newly() >= len(SIZES)


@pytest.mark.parametrize("what", ["rates", "vectors", "prior"])
def test_other_statistics_are_read_anew(world: World, what: str) -> None:
    before = world.trained(world.cohort())
    with torch.no_grad():
        world.network.get_parameter(f"item_statistics.{what}").mul_(1.3)
    found = world.trained(world.cohort())
    assert_same(found, world.trained(world.cohort(), anew=True))
    with pytest.raises(AssertionError):
        assert_same(found, before)


def test_other_settings_are_read_anew(world: World) -> None:
    world.trained(world.cohort())
    world.config = small_config(**{**INPUTS, "window_length": 5})
    found = world.trained(world.cohort())
    assert_same(found, world.trained(world.cohort(), anew=True))


def test_what_has_no_room_is_computed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 0)
    one, other = world.trained(world.cohort()), world.trained(world.cohort())
    assert world.newly() == 2 * len(SIZES)
    assert_same(one, other)


def test_a_network_that_is_gone_leaves_nothing_behind(world: World) -> None:
    before = len(remembered._memories)
    world.trained(world.cohort())
    assert len(remembered._memories) == before + 1
    del world.network
    assert len(remembered._memories) == before

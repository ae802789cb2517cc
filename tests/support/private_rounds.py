"""Small private rounds for tests, with everything secret replaced by what the test dictates."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from client_app.learners import Cohort, Learner, SharedModel, Trained, learner_of
from mrff.config import PrivacySettings
from mrff.data.dataset import Dataset
from mrff.privacy.mechanisms import MECHANISMS
from mrff.privacy.mechanisms.clipping import STATISTICS
from mrff.privacy.mechanisms.noised import NoisedClient
from mrff.privacy.mechanisms.noisy_steps import NoisyOptimizer, NoisySteps
from mrff.privacy.noise import NoiseSource
from mrff.sums import CohortSums
from mrff_model.building import initial_shared, tensors_of
from mrff_model.network import MRFFNetwork
from tests.support.small_data import node_view, small_config, small_network


@dataclass(frozen=True)
class PrivateRound:
    """A round of users who all take part, before it is computed."""

    network: MRFFNetwork
    learner: Learner
    model: SharedModel
    cohort: Cohort
    half: NoisedClient

    def train(self) -> Trained:
        """The round as the node computes it; its sums are not yet what may leave."""
        return self.learner.train(self.model, self.cohort, self.half)

    def release(self, sums: CohortSums) -> CohortSums:
        """What leaves the node."""
        return self.half.release_node(sums, np.ones(len(self.cohort), dtype=bool))

    def on(self, device: str) -> PrivateRound:
        """The same round computed there."""
        network = deepcopy(self.network).to(device)
        return replace(self, network=network, learner=_learner(network, self.half))


def private_round(
    dataset: Dataset,
    users: np.ndarray,
    *,
    privacy: PrivacySettings,
    seed: int = 0,
    spread: float = 1.0,
    **changes: bool | int | float | str,
) -> PrivateRound:
    """A round of ``users`` from random parameters; keywords are settings in snake_case.

    Args:
        privacy: used as it is, without the checks that a run configuration goes through.
        seed, spread: of the random parameters, private ones included.
    """
    config = replace(small_config(**{"dropout": 0.2, "seed": seed, **changes}), privacy=privacy)
    network = small_network(config, dataset)
    random = torch.Generator().manual_seed(seed)

    def moved(value: Tensor) -> Tensor:
        return value + spread * torch.randn(value.shape, generator=random)

    public, group = (
        {name: moved(torch.from_numpy(array)) for name, array in part.items()}
        for part in initial_shared(network)
    )
    everyone = {  # drawn for all users of the dataset: a user's row does not depend on the others
        name: moved(value.expand(dataset.num_users, *value.shape[1:]))
        for name, value in tensors_of(network, "private").items()
    }
    layers, experts = config.routes_shape
    view = node_view(config, dataset, users, {"clipping-norm": privacy.clipping_norm})
    half = MECHANISMS[privacy.mode].client(view)
    assert isinstance(half, NoisedClient)
    own = {name: rows[torch.from_numpy(users)] for name, rows in everyone.items()}
    return PrivateRound(
        network=network,
        learner=_learner(network, half),
        model=SharedModel(1, public, group, torch.full((layers, experts), 1.0 / experts)),
        cohort=Cohort(dataset, users, own, np.full((len(users), layers), -1)),
        half=half,
    )


def _learner(network: MRFFNetwork, half: NoisedClient) -> Learner:
    return learner_of(half.config, network, half.needs)


def joined(sums: CohortSums) -> np.ndarray:
    """The whole vector of a sum: updates in their order, the statistics last."""
    parts = [array for name, array in sums.updates.items() if name != STATISTICS]
    return np.concatenate([array.ravel() for array in (*parts, sums.updates[STATISTICS])])


class LeftOut(NoiseSource):
    """Coins that take every record but one."""

    def __init__(self, record: int | None) -> None:
        super().__init__(0)
        self._record = record

    def coins(self, count: int, rate: float) -> np.ndarray:
        """All true, but for the record left out."""
        taken = np.ones(count, dtype=bool)
        if self._record is not None:
            taken[self._record] = False
        return taken


class Watched(NoisyOptimizer):
    """Notes the exact clipped sums, and answers with noise that does not depend on them.

    A step's guarantee holds for every outcome of the earlier steps (adaptive composition), so two
    neighbouring runs are compared with the earlier outcomes held equal.
    """

    released_sums: list[list[Tensor]]

    def __init__(self, *arguments: object, **limits: object) -> None:
        super().__init__(*arguments, **limits)  # type: ignore[arg-type]
        self.released_sums = []
        Watched.last = self

    last: Watched

    def released(self, sums: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """See `NoisyOptimizer.released`."""
        self.released_sums.append([total.detach().clone().double() for total in sums])
        random = torch.Generator().manual_seed(len(self.released_sums))
        return [torch.randn(total.shape, generator=random).to(total.device) for total in sums]

    def steps(self, releases_per_step: int) -> list[Tensor]:
        """The whole vector of every step: what is released together, joined."""
        flat = [torch.cat([t.flatten() for t in sums]) for sums in self.released_sums]
        return [
            torch.cat(flat[first : first + releases_per_step])
            for first in range(0, len(flat), releases_per_step)
        ]


def watch(task: PrivateRound, *, left_out: int | None) -> tuple[Trained, list[Tensor]]:
    """A round of local-dp-sgd from whose every step a record is missing.

    Returns:
        What it gives, and the un-noised released vector of every local step.
    """

    def source(purpose: str) -> NoiseSource:
        return LeftOut(left_out if purpose == "records" else None)

    own = task.half.config.privacy.private_training
    with (
        patch.object(task.half, "source", source),
        patch.object(NoisySteps, "make_optimizer", Watched),
    ):
        trained = task.train()
    return trained, Watched.last.steps(2 if own == "noised" else 1)

"""The one node of an audited federation: who takes part in a round, and what the node answers.

It computes what a node of a run computes, by the same mechanism and learner, without messages and
private store.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners import Cohort, SharedModel, learner_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.noise import Floats, NoiseSource
from mrff.sums import CohortSums, NodeView
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork


class NoNoise(NoiseSource):
    """The bug to be found: coins as ever, but no noise."""

    def gaussian(self, shape: tuple[int, ...], deviation: float) -> Floats:
        """Zeros."""
        return np.zeros(shape)

    def laplace_sums(self, shape: tuple[int, ...], scale: float, count: int) -> Floats:
        """Zeros."""
        return np.zeros(shape)


def forget_noise(half: object) -> None:
    """Makes a half of a mechanism, a client's or the server's, draw no noise."""
    setattr(half, "source", lambda *purpose: NoNoise())  # noqa: B010


class AuditedNode:
    """A node whose answers are read by someone who looks for canaries.

    Args:
        dataset: everybody, canaries who are not there included.
        present: rows of the users that the node holds.
        noise: False: it forgets its noise.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        network: MRFFNetwork,
        present: NDArray[np.int64],
        *,
        noise: bool,
    ) -> None:
        self._config, self._dataset, self._network = config, dataset, network
        self._present, self._noise = present, noise
        self._own = {
            name: value.expand(dataset.num_users, *value.shape[1:]).clone()
            for name, value in tensors_of(network, "private").items()
        }

    def answer(self, model: SharedModel, terms: Mapping[str, float]) -> CohortSums:
        """Trains the users of a round and keeps what is theirs; ``terms`` are the server's."""
        config = self._config
        view = NodeView(
            config=config,
            user_keys=self._dataset.user_keys[self._present],
            population="audit",
            ledger_folder=Path(config.home) / "audited-node",
            limits={},
            training="audit",
            round_number=model.round_number,
            terms=terms,
        )
        mechanism = mechanism_of(config).client(view)
        if not self._noise:
            forget_noise(mechanism)
        admitted = mechanism.admit()
        users, sums = self._present[admitted], CohortSums()
        if len(users):
            rows = torch.from_numpy(users)
            routes = np.full((len(users), config.routes_shape[0]), -1, dtype=np.int64)
            own = {name: values[rows] for name, values in self._own.items()}
            cohort = Cohort(self._dataset, users, own, routes)
            learner = learner_of(config, self._network, mechanism.needs)
            trained = learner.train(model, cohort, mechanism)
            for name, values in trained.private.items():
                self._own[name][rows] = values
            sums = trained.sums
        return mechanism.release_node(sums, admitted)

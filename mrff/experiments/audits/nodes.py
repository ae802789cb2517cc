"""The one node of an audited federation: who takes part in a round, and what the node answers.

It computes what a node of a run computes, without messages, disk and the node's own ledger: by
`client_app.privacy` in a private mode, by the configured trainer without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import RecordDict
from numpy.typing import NDArray

from client_app.privacy import mechanism_named, upload_reply
from client_app.privacy_upload import PrivateRound
from client_app.randomness import sampled_users
from client_app.totals import TrainTotals
from client_app.training import Cohort, Start, Tensors, trainer_named
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.privacy.bound import Bound
from mrff.privacy.noise import Floats, NoiseSource
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork


class WatchedNode(Protocol):
    """A node whose answers are read by someone who looks for canaries."""

    def answer(self, start: Start, request: Mapping[str, Any]) -> RecordDict:
        """Trains the users of a round and keeps what is theirs; ``request`` is the server's."""
        ...


class NoNoise(NoiseSource):
    """The bug to be found: coins as ever, but no noise."""

    def gaussian(self, shape: tuple[int, ...], deviation: float) -> Floats:
        """Zeros."""
        return np.zeros(shape)

    def laplace_sums(self, shape: tuple[int, ...], scale: float, count: int) -> Floats:
        """Zeros."""
        return np.zeros(shape)


class _NoiselessRound(PrivateRound):
    def source(self, purpose: str) -> NoiseSource:
        return NoNoise()


class _Users:
    """Users (U,) of a dataset, each with his private parameters."""

    def __init__(self, dataset: Dataset, network: MRFFNetwork, present: np.ndarray) -> None:
        self.present, self.keys = present, dataset.user_keys[present]
        self._dataset = dataset
        self._own = {
            name: value.expand(dataset.num_users, *value.shape[1:]).clone()
            for name, value in tensors_of(network, "private").items()
        }

    def cohort(self, drawn: NDArray[np.bool_]) -> Cohort:
        """The ``drawn`` (U,) ones."""
        users = self.present[drawn]
        rows = torch.from_numpy(users)
        return Cohort(self._dataset, users, {n: values[rows] for n, values in self._own.items()})

    def keep(self, cohort: Cohort, private: Tensors) -> None:
        """Notes the cohort's new private parameters."""
        for name, values in private.items():
            self._own[name][torch.from_numpy(cohort.users)] = values


class PlainNode:
    """A node of a run without privacy.

    Args:
        present: rows of the users in ``dataset`` that it holds.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, network: MRFFNetwork, present: np.ndarray
    ) -> None:
        self._config, self._network = config, network
        self._users = _Users(dataset, network, present)
        self._train = trainer_named(config.training.trainer)

    def answer(self, start: Start, request: Mapping[str, Any]) -> RecordDict:
        """See `WatchedNode.answer`."""
        config, number = self._config, start.round_number
        training, totals = config.training, TrainTotals(*config.routes_shape)
        cohort = self._users.cohort(
            sampled_users(training.seed, number, self._users.keys, training.sampling_rate)
        )
        if len(cohort.users):
            trained = self._train(self._network, start, cohort, data=config.data, training=training)
            self._users.keep(cohort, trained.private)
            totals.add(trained, np.full_like(trained.routes, -1))
        return totals.reply(number, seconds=0.0)


class PrivateNode:
    """A node of a run in a private mode.

    Args:
        present: rows of the users in ``dataset`` that it holds.
        noise: False: it forgets its noise.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        network: MRFFNetwork,
        present: np.ndarray,
        *,
        noise: bool,
    ) -> None:
        self._config, self._network, self._num_users = config, network, dataset.num_users
        self._users = _Users(dataset, network, present)
        self._round = PrivateRound if noise else _NoiselessRound
        self._compute = mechanism_named(config.privacy.privacy_mode)
        self._central = config.privacy.privacy_mode == "central-user"

    def answer(self, start: Start, request: Mapping[str, Any]) -> RecordDict:
        """See `WatchedNode.answer`."""
        config, network, privacy = self._config, self._network, self._config.privacy
        cohort = self._users.cohort(self._drawn(start.round_number))
        task = self._round(
            start=start,
            cohort=cohort,
            data=config.data,
            training=config.training,
            privacy=privacy,
            bound=Bound(
                float(request["clipping-norm"]), privacy.route_share, len(network.layers),
                network.num_experts, order=1 if privacy.privacy_mode == "laplace" else 2,
            ),
        )  # fmt: skip
        upload = self._compute(network, task)
        self._users.keep(cohort, upload.private)
        units = self._num_users if self._central else len(cohort.users)
        return upload_reply(network, start.round_number, units, upload)

    def _drawn(self, number: int) -> NDArray[np.bool_]:
        training, keys = self._config.training, self._users.keys
        if self._central:
            return NoiseSource().coins(len(keys), training.sampling_rate)
        return sampled_users(training.seed, number, keys, training.sampling_rate)

"""Rounds of rivals that factorise in one process, without messages: learner and server step alike.

What comes out is what a run through Flower gives on one node. It is here because a contaminated
protocol must have no setting: nothing that is deployed can be told to spare held-out items.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client_app.learners.factors import FactorLearner
from client_app.learners.negatives import Met
from mrff.algorithms import algorithm_of, network_of
from mrff.algorithms.learning import Cohort, SharedModel
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset
from mrff.data.windows import eligible_users, tested_first
from mrff.privacy.mechanisms.base import ModelShapes
from mrff.privacy.mechanisms.none import PlainClient, PlainServer
from mrff.sums import NodeView
from mrff_model.building import tensors_of
from mrff_model.factors import FactorNetwork
from server_app.parts import model_step
from strategies.state import TrainingState


class LocalRounds:
    """All users of a dataset as one node, and the server beside it.

    Args:
        met: whose items are no negatives, see `client_app.learners.negatives`.

    Raises:
        ConfigError: the configured algorithm does not factorise.
    """

    def __init__(self, dataset: Dataset, config: RunConfig, met: Met = "training") -> None:
        seed = config.training.seed
        network = network_of(config, dataset.schema, dataset.item_features, seed=seed)
        algorithm = algorithm_of(config)
        if not isinstance(network, FactorNetwork):
            raise ConfigError(
                f"training.algorithm={algorithm.name} does not factorise; "
                "choose training.algorithm=fedmf or pfedrec"
            )
        public, group = algorithm.first_model(config, lambda seed: network)
        self.state, self.config = TrainingState(public=public, group=group), config
        self._learner, self._step = FactorLearner(network, config, met), model_step(config)
        shapes = {name: array.shape for name, array in public.items()}
        self._shapes = ModelShapes(shapes, {}, config.routes_shape)
        users = tested_first(dataset, holdout=config.data.holdout)
        private = {
            name: value.expand(len(users), *value.shape[1:]).clone()
            for name, value in tensors_of(network, "private").items()
        }
        routes = np.full((len(users), config.routes_shape[0]), -1, dtype=np.int64)
        self.everybody = Cohort(dataset, users, private, routes)
        self.users = eligible_users(dataset, holdout=config.data.holdout)
        """(U,) rows in the dataset of those who are tested; they are the first of everybody."""

    def train(self) -> float:
        """A round; returns its loss."""
        number, everybody = self.state.round + 1, self.everybody
        client = PlainClient(
            NodeView(
                config=self.config,
                user_keys=everybody.keys,
                population=("",),
                ledger_folder=Path(),
                limits={},
                training="",
                round_number=number,
                terms={},
            )
        )
        admitted = client.admit()
        rows = np.flatnonzero(admitted)
        trained = self._learner.train(self._model(number), everybody.part(rows), client)
        for name, values in trained.private.items():
            self.everybody.private[name][torch.from_numpy(rows)] = values
        sums = client.release_node(trained.sums, admitted)
        released = PlainServer().release(sums, number, self._shapes)
        self._step.take(self.state, released, number)
        self.state.round = number
        return float(released.facts["train_loss"])

    def scores(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Rows of `users` with their scores (B, items) of items 1, 2, ..."""
        tested = self.everybody.part(np.arange(len(self.users)))
        yield from self._learner.scores(self._model(self.state.round), tested)

    def _model(self, number: int) -> SharedModel:
        public = {name: torch.from_numpy(array) for name, array in self.state.public.items()}
        return SharedModel(number, public, {})

"""Learner ``silo``: the node is the trainer, with one local copy of the shared parameters.

Per step the records of all participating users are Poisson-sampled. A record is one window,
computed as a user with that window only: a gate that read a user's other windows would let one
record change the gradients of others. What is done with records' gradients is the mechanism's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from client_app.learners.base import (
    dropout_keys,
    loss_weights,
    trained_parameters,
    training_batch,
    with_drawn_items,
)
from client_app.learners.cohort import CohortLearner
from client_app.learners.own_copies import loss_of_one, quiet_vmap
from client_app.learners.rates import move, private_rate
from mrff.algorithms.learning import Cohort, SharedModel, Trained
from mrff.config import RunConfig
from mrff.privacy.mechanisms.local_dp_sgd import LocalClient
from mrff.privacy.mechanisms.noisy_steps import NoisySteps, RecordGradients
from mrff.sums import Tensors
from mrff_model.batch import Batch
from mrff_model.building import load_shared
from mrff_model.network import MRFFNetwork

MOST_CHUNK_BYTES = 128 * 2**20  # of per-record gradients held at once


class SiloLearner(CohortLearner):
    """See `Learner`; users are scored as by `CohortLearner`."""

    def train(self, model: SharedModel, cohort: Cohort, mechanism: object) -> Trained:
        """See `Learner.train`; all users of the node take part in one training."""
        assert isinstance(mechanism, LocalClient)
        load_shared(self.network, model.public, model.group)
        steps = _Steps(self.network, model, cohort, mechanism)
        for number in range(self.config.training.local_steps):
            steps.take(number)
        return steps.trained()


class _Steps:
    """The local steps of one round, and the users' own parameters on their way."""

    def __init__(
        self, network: MRFFNetwork, model: SharedModel, cohort: Cohort, mechanism: LocalClient
    ) -> None:
        self.network, self.model, self.cohort = network, model, cohort
        self.config: RunConfig = mechanism.config
        shared = trained_parameters(network, mechanism)
        some = next(iter(shared.values()))
        records, self.user_of = _records(cohort, self.config, model.round_number)
        self.records = records.map(lambda field: field.to(some.device))
        self.noisy = NoisySteps(mechanism, shared, records=len(self.user_of), users=len(cohort))
        self.coins = mechanism.source("records")
        self.own = {name: rows.to(some).clone() for name, rows in cohort.private.items()}
        self.done = Trained.nothing_yet(cohort, len(network.layers))
        loads = None if model.loads is None else model.loads.to(some)
        self.gradients_of = vmap(
            grad(
                loss_of_one(network, loss_weights(self.config), loads), argnums=(0, 1), has_aux=True
            ),
            in_dims=(None, 0, 0, 0, 0),
        )

    def take(self, number: int) -> None:
        """One step on freshly sampled records."""
        training = self.config.training
        rate = self.config.privacy.record_sampling_rate
        sampled = np.flatnonzero(self.coins.coins(len(self.user_of), rate))
        keys = dropout_keys(training.seed, self.model.round_number, self.cohort.keys, number)
        self.noisy.begin_step(self.own)
        most = self._most_records()
        for first in range(0, len(sampled), most):
            self._add(sampled[first : first + most], keys)
        own_sums = self.noisy.step()
        if own_sums:
            self._move_noised(own_sums)

    def trained(self) -> Trained:
        """What the steps did."""
        private = {name: rows.cpu() for name, rows in self.own.items()}
        return replace(self.done, sums=self.noisy.sums(self.network), private=private)

    def _add(self, part: np.ndarray, keys: Tensor) -> None:
        """Hands the gradients of the records ``part`` to the mechanism."""
        users = self.user_of[part]
        rows = torch.from_numpy(users)
        batch = self.records.map(lambda field: field[torch.from_numpy(part).to(field.device)])
        own = {name: values[rows] for name, values in self.own.items()}
        shared = {name: value.detach() for name, value in self.noisy.shared.items()}
        key = keys[rows].to(next(iter(shared.values())).device)
        with torch.no_grad(), quiet_vmap():
            (for_shared, for_own), (routes, _, loss) = self.gradients_of(
                shared, own, batch, key, self.network.rates_of(batch)
            )
        finite = self.noisy.accumulate(RecordGradients(for_shared, for_own, routes, loss, rows))
        self.done.routes[users[finite]] = routes.cpu().numpy()[finite]
        if self.config.privacy.private_training == "free":
            self._move_freely(users, for_own, finite, batch.mask.sum((1, 2)))

    def _move_freely(
        self, users: np.ndarray, gradients: Tensors, finite: np.ndarray, targets: Tensor
    ) -> None:
        """The record is the whole user, and only that user ever reads the row that it moves."""
        training, at = self.config.training, torch.from_numpy(users[finite])
        targets = targets[torch.from_numpy(finite)]
        for name, rows in self.own.items():
            gradient = gradients[name][torch.from_numpy(finite)]
            gradient = gradient + training.private_weight_decay * rows[at]
            moved = move(rows[at], gradient, private_rate(name, training, targets))
            rows[at] = torch.where(torch.isfinite(moved), moved, rows[at])
        self.done.kept[users[finite]] = True

    def _move_noised(self, sums: Tensors) -> None:
        """By sums that went through the same clipped and noised step."""
        training = self.config.training
        per_user = self.noisy.expected / len(self.cohort)
        for name, total in sums.items():
            rows = self.own[name]
            step = total / per_user + training.private_weight_decay * rows
            self.own[name] = rows - training.private_learning_rate * step
        self.done.kept[:] = True

    def _most_records(self) -> int:
        shared = (*self.noisy.shared.values(), self.noisy.statistics)
        numbers = sum(value.numel() for value in shared)
        numbers += sum(rows[0].numel() for rows in self.own.values())
        return max(1, min(MOST_CHUNK_BYTES // (12 * numbers), 512))


def _records(cohort: Cohort, config: RunConfig, round_number: int) -> tuple[Batch, np.ndarray]:
    """Every window of the cohort as a record of its own, (R, 1, L), and whose it is (R,)."""
    batch = training_batch(cohort.dataset, cohort.users, config)
    batch = with_drawn_items(batch, cohort, config, round_number)
    users, windows = torch.nonzero(batch.real.any(-1), as_tuple=True)
    codes = {name: values[users] for name, values in batch.user_codes.items()}
    fields = (field[users, windows][:, None] for field in batch[:6])
    # A record reads nothing of the user's other records: where there are several, no gate either.
    alone = config.data.max_windows_per_user == 1
    earlier = tuple(field[users] for field in batch.earlier if alone)
    drawn = tuple(field[users] for field in batch.drawn)
    times = tuple(field[users, windows][:, None] for field in batch.times)
    nothing: tuple[Tensor, ...] = ()  # item statistics cannot go with records
    optional = (earlier, drawn, times, nothing, nothing)
    return Batch._make([*fields, codes, *optional]), users.numpy()

"""Local training of a whole cohort as a few batched computations; the default trainer.

It gives what `client_app.serial_training` gives, up to float addition: users share a computation,
never a parameter. Users of similar length form chunks of bounded memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from client_app.cohort_chunks import chunks_of, compute, record_sizes
from client_app.cohort_outcome import Outcome
from client_app.one_step import one_sgd_step
from client_app.serial_training import train_serially
from client_app.training import (
    Cohort,
    Start,
    Tensors,
    Trained,
    chosen_experts,
    dropout_keys,
    training_batch,
    user_weights,
)
from mrff_config import DataSettings, TrainingSettings
from mrff_model.building import load_shared, tensors_of
from mrff_model.network import MRFFNetwork


def train_cohort(
    network: MRFFNetwork,
    start: Start,
    cohort: Cohort,
    *,
    data: DataSettings,
    training: TrainingSettings,
) -> Trained:
    """Trains many users at once; see `client_app.training.Trainer`."""
    if training.local_steps > 1 or training.local_optimizer != "sgd":
        return train_serially(network, start, cohort, data=data, training=training)
    load_shared(network, start.public, start.group)
    public, bank = (tensors_of(network, scope) for scope in ("public", "group"))
    parameters: Tensors = dict(network.named_parameters())
    shared = {name: parameters[name] for name in [*public, *bank]}
    result = _Result(network, cohort, shared)
    sizes = record_sizes(cohort.dataset, cohort.users, data)

    def train(rows: np.ndarray) -> tuple[Outcome, np.ndarray]:
        users = cohort.users[rows]
        batch = training_batch(cohort.dataset, users, data)
        targets = batch.mask.sum((1, 2)).numpy()
        weights = torch.from_numpy(user_weights(targets, training.user_weighting)).float()
        keys = cohort.dataset.user_keys[users]
        private = {n: values[torch.from_numpy(rows)] for n, values in cohort.private.items()}
        key = dropout_keys(training.seed, start.round_number, keys, 0)
        outcome = one_sgd_step(
            network, shared, private, batch, weights=weights, dropout_key=key,
            loads=start.loads, training=training,
        )  # fmt: skip
        return outcome, targets

    waiting = chunks_of(sizes, positions=8192, users=4096)
    while waiting:
        again: list[np.ndarray] = []
        for rows, (outcome, targets) in compute(waiting, train):
            finite = outcome.finite.numpy()
            if outcome.update is not None:
                result.add(rows[finite], outcome, targets, training.user_weighting)
            elif not finite.all():
                again += [rows[finite]] if finite.any() else []
            elif len(rows) > 1:
                again += np.array_split(rows, 2)
        waiting = again
    return result.trained(public, bank)


class _Result:
    """Adds up chunks."""

    def __init__(self, network: MRFFNetwork, cohort: Cohort, shared: Tensors) -> None:
        num_users, num_layers = len(cohort.users), len(network.layers)
        self.sums = {n: torch.zeros_like(v, dtype=torch.float64) for n, v in shared.items()}
        self.private = {name: rows.clone() for name, rows in cohort.private.items()}
        self.routes = np.full((num_users, num_layers), -1, dtype=np.int64)
        self.kept = np.zeros(num_users, dtype=bool)
        self.expert_weight = np.zeros((num_layers, network.num_experts))
        self.expert_users = np.zeros((num_layers, network.num_experts), dtype=np.int64)
        self.weight, self.loss_sum, self.num_targets = 0.0, 0.0, 0

    def add(self, rows: np.ndarray, outcome: Outcome, targets: np.ndarray, weighting: str) -> None:
        """Takes in the finite users of a chunk, ``rows`` of the cohort."""
        finite = outcome.finite
        assert outcome.update is not None
        for name, update in outcome.update.items():
            self.sums[name] += update
        at = torch.from_numpy(rows)
        for name, values in outcome.private.items():
            self.private[name][at] = values[finite]
        targets = targets[finite.numpy()]
        weights = user_weights(targets, weighting)
        routes, visited = outcome.routes[finite].numpy(), outcome.visited[finite].numpy()
        self.routes[rows], self.kept[rows] = routes, True
        self.expert_weight += np.einsum("u,ulk->lk", weights, visited)
        for layer, chosen in enumerate(routes.T):
            self.expert_users[layer] += np.bincount(chosen, minlength=visited.shape[-1])
        self.weight += float(weights.sum())
        self.loss_sum += float(outcome.bce[finite].double().sum())
        self.num_targets += int(targets.sum())

    def trained(self, public: Tensors, bank: Tensors) -> Trained:
        """The sums as a trainer returns them."""
        sums: dict[str, Tensor] = {name: total.float() for name, total in self.sums.items()}
        return Trained(
            public={name: sums[name] for name in public},
            group=chosen_experts({name: sums[name] for name in bank}, self.expert_weight),
            weight=self.weight,
            expert_weight=self.expert_weight,
            expert_users=self.expert_users,
            loss_sum=self.loss_sum,
            num_targets=self.num_targets,
            private=self.private,
            routes=self.routes,
            kept=self.kept,
        )

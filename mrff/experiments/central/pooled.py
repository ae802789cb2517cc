"""Pooled training: the same network, but everybody's data lies in one place. NOT federated.

What federation costs in quality is seen against this: the same network, loss, records, start and
optimiser (Adam where the server has it), the same number of passes over the data, but small
batches of users, one after the other, without rounds and messages. Private parameters are rows of
a table here; they move by plain gradient steps, as on a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from client_app.cohort_evaluation import score_cohort
from client_app.evaluation import Part, Scores
from client_app.one_step import one_sgd_step
from client_app.training import Cohort, Tensors, dropout_keys, training_batch, user_weights
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset
from mrff.data.floors import Floor, floor_of, split_rows
from mrff_model.building import initial_shared, load_shared, rows_suffice, tensors_of
from mrff_model.metrics import load_shares
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import layer_of, rate_kind

BATCH_USERS = 32

Note = Callable[[int, float, float], None]  # pass, validation AUC, validation log loss


@dataclass(frozen=True)
class PooledResult:
    """Predictions of the test part by the best validated model."""

    users: np.ndarray  # (U,) rows in the dataset
    scores: Scores
    best_pass: int
    passes: int


def train_pooled(
    network: MRFFNetwork,
    dataset: Dataset,
    config: RunConfig,
    note: Note = lambda number, auc, log_loss: None,
) -> PooledResult:
    """Trains for as many passes as the users of a federated run make, and tests the best model.

    Args:
        network: as it starts; its parameters are trained.
        note: told of every validation.

    Raises:
        ConfigError: settings that only federated runs know.
        DataError: no user is long enough for the split, or held-out labels are of one class.
    """
    if config.network.clusters or not rows_suffice(network):
        raise ConfigError(
            "pooled training knows clusters=0 and private-parameters=user only, got "
            f"clusters={config.network.clusters} and "
            f"private-parameters={config.network.private_parameters}"
        )
    pool = _Pool(network, dataset, config)
    passes = max(1, round(config.server.num_server_rounds * config.training.sampling_rate))
    patience, stale = config.evaluation.early_stop_patience, 0
    best_auc, best_pass, best = -1.0, 0, pool.copy()
    for number in range(1, passes + 1):
        pool.train_once(number, pool.rate_share((number - 1) / passes))
        seen = pool.measure("valid")
        note(number, seen.auc, seen.log_loss)
        stale += 1
        if seen.auc > best_auc:
            best_auc, best_pass, best, stale = seen.auc, number, pool.copy(), 0
        if 0 < patience <= stale:
            break
    pool.restore(best)
    return PooledResult(pool.everybody.users, pool.score("test"), best_pass, number)


def pooled_bank(update: Tensor, share: Tensor, pooling: float) -> Tensor:
    """The step of K experts of a layer, pooled as `strategies.pooling` pools means on the server.

    Args:
        update: (K, ...), an expert's summed step of the users who chose it.
        share: (K,) of the users' weight, 0 for an expert that nobody chose; it sums to 1.
    """
    average = update.sum(0)
    used = share.view(-1, *[1] * (update.dim() - 1))
    own = torch.where(used > 0.0, update / used.clamp(min=1e-12), average)
    return (1.0 - pooling) * own + pooling * average


class _Pool:
    """The model in training: the network's own parameters, and the users' tables."""

    def __init__(self, network: MRFFNetwork, dataset: Dataset, config: RunConfig) -> None:
        self.network, self.config = network, config
        self.training = replace(config.training, local_learning_rate=1.0)
        parameters = dict(network.named_parameters())
        if config.pools_experts:
            load_shared(network, *initial_shared(network, experts_alike=True))
        self.banks = tensors_of(network, "group").keys()
        names = [*tensors_of(network, "public"), *self.banks]
        self.shared: Tensors = {name: parameters[name] for name in names}
        users = split_rows(dataset, holdout=config.data.holdout, part="valid").users
        tables = {
            name: value.cpu().expand(len(users), *value.shape[1:]).clone()
            for name, value in tensors_of(network, "private").items()
        }
        self.everybody = Cohort(dataset, users, tables)
        self.tables = tables
        self.optimizer = self._optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.loads: Tensor | None = None

    def rate_share(self, done: float) -> float:
        """The share of the learning rate when that share of the passes is done, as on the server.

        A run whose decay ends before it does stays at the final rate from there on.
        """
        server = self.config.server
        if not server.server_decay_rounds:
            return 1.0
        progress = min(1.0, done * server.num_server_rounds / server.server_decay_rounds)
        final = server.server_final_rate
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def train_once(self, number: int, rate_share: float) -> None:
        """One pass over all users in a new order."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_share
        users, seed = self.everybody.users, self.config.training.seed
        order = np.random.default_rng([seed, number]).permutation(len(users))
        counts = np.zeros(self.config.routes_shape, dtype=np.int64)
        for first in range(0, len(order), BATCH_USERS):
            rows = np.sort(order[first : first + BATCH_USERS])
            for layer, routes in enumerate(self._step(rows, number).T):
                counts[layer] += np.bincount(routes, minlength=counts.shape[1])
        self.loads = torch.from_numpy(load_shares(counts)).float()

    def _step(self, rows: np.ndarray, number: int) -> np.ndarray:
        """Moves everything once by the gradients of a batch; returns the users' routes."""
        dataset, users = self.everybody.dataset, self.everybody.users[rows]
        device, at = next(self.network.parameters()).device, torch.from_numpy(rows)
        batch = training_batch(dataset, users, self.config.data)
        weights = user_weights(batch.mask.sum((1, 2)).numpy(), self.training.user_weighting)
        key = dropout_keys(self.training.seed, number, dataset.user_keys[users], 0)
        used = torch.from_numpy(weights / weights.sum()).float().to(device)
        outcome = one_sgd_step(
            self.network,
            self.shared,
            {name: table[at].to(device) for name, table in self.tables.items()},
            batch.map(lambda field: field.to(device)),
            weights=used,
            dropout_key=key.to(device),
            loads=None if self.loads is None else self.loads.to(device),
            training=self.training,
        )
        if outcome.update is None:
            raise FloatingPointError("pooled training diverged; lower server-learning-rate")
        shares = torch.einsum("u,ulk->lk", used, outcome.visited.to(used))
        for name, update in outcome.update.items():
            if name in self.banks and self.config.pools_experts:
                share = shares[layer_of(name)]
                update = pooled_bank(update, share, self.config.server.expert_pooling)
            self.shared[name].grad = -update
        self.optimizer.step()
        for name, values in outcome.private.items():
            self.tables[name][at] = values.detach().cpu()
        return outcome.routes.cpu().numpy()

    def score(self, part: Part) -> Scores:
        return score_cohort(self.network, self.everybody, data=self.config.data, part=part)

    def measure(self, part: Part) -> Floor:
        scores = self.score(part)
        return floor_of(scores.labels, scores.logits)

    def copy(self) -> tuple[Tensors, Tensors]:
        """Everything that is trained."""
        shared = {name: value.detach().clone() for name, value in self.shared.items()}
        return shared, {name: table.clone() for name, table in self.tables.items()}

    def restore(self, kept: tuple[Tensors, Tensors]) -> None:
        """The inverse of `copy`."""
        shared, tables = kept
        for name, value in self.shared.items():
            value.detach().copy_(shared[name])
        for name, table in self.tables.items():
            table.copy_(tables[name])

    def _optimizer(self) -> torch.optim.Optimizer:
        """Adam with the server's settings; gates and item biases have their own rates, too."""
        server = self.config.server

        factors = {
            "gate": server.gate_learning_rate_factor,
            "item_bias": server.item_bias_learning_rate_factor,
            "other": 1.0,
        }
        groups = [
            {"params": [value], "lr": server.server_learning_rate * factors[rate_kind(name)]}
            for name, value in self.shared.items()
        ]
        return torch.optim.Adam(
            groups, betas=(server.server_momentum, server.server_beta2), eps=server.server_epsilon
        )

"""Pooled training: the same network, but everybody's data lies in one place. NOT federated.

What federation costs in quality is seen against this: the same network, loss, records, start and
optimiser (Adam where the server has it), the same number of passes over the data, but small
batches of users, one after the other, without rounds and messages. Private parameters are rows of
a table here; they move by plain gradient steps, as on a device.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from client_app.learners.base import work_on
from client_app.learners.cohort import CohortLearner
from client_app.learners.one_step import one_sgd_step
from mrff.algorithms.learning import Cohort, SharedModel
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset
from mrff.data.floors import split_rows
from mrff.data.windows import training_users
from mrff.experiments.central import Note, Outcome, Predicted, Ranked, nobody
from mrff.experiments.central.statistics import fill_statistics
from mrff.experiments.central.validation import Best, measures_of
from mrff.metrics import READS
from mrff.metrics.metric import Scored
from mrff.metrics.routes import load_shares
from mrff.sums import Tensors
from mrff.wire.requests import Part
from mrff_model.building import initial_shared, load_shared, rows_suffice, tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import expert_names, expert_of, is_fixed, split_bank
from server_app.parts import ADAM_BETA2, ADAM_EPSILON, learning_rates_of
from strategies.pooling import pool_experts

BATCH_USERS = 32


def train_pooled(
    network: MRFFNetwork,
    dataset: Dataset,
    config: RunConfig,
    note: Note = nobody,
) -> Outcome:
    """Trains for as many passes as the users of a federated run make, and tests the best model.

    Clicks are validated after every pass. Ranking costs as much as a pass: where the next item is
    learned, it is done as often as ``evaluate-every`` rounds come to, and after the last pass.

    Args:
        network: as it starts; its parameters are trained.
        note: told of every validation.

    Raises:
        ConfigError: settings that only federated runs know.
        DataError: no user is long enough for the split, or held-out labels are of one class.
    """
    if config.network.clusters or not rows_suffice(network):
        raise ConfigError(
            "pooled training knows clusters=off and private-parameters=user only, got "
            f"clusters={config.network.clusters} and "
            f"private-parameters={config.network.private_parameters}"
        )
    pool = _Pool(network, dataset, config)
    share = config.training.sampling_rate
    passes = max(1, round(config.server.num_server_rounds * share))
    every = (
        1
        if config.objective == "click"
        else max(1, round(config.evaluation.evaluate_every * share))
    )
    patience, stale = config.evaluation.early_stop_patience or 0, 0
    best, trained = Best(config, READS[config.objective]), _copy(pool.trained())
    for number in range(1, passes + 1):
        # the round that a federated run has reached when it has made as many passes
        server_round = 1 + (number - 1) / passes * config.server.num_server_rounds
        pool.train_once(number, pool.learning_rates.of_round(server_round))
        if number % every and number != passes:
            continue
        measures = measures_of(pool.score("valid"), config)
        note(number, measures)
        stale += 1
        if best.improves(number, measures):
            trained, stale = _copy(pool.trained()), 0
        if 0 < patience <= stale:
            break
    for name, value in pool.trained().items():
        value.copy_(trained[name])
    return _outcome(pool.everybody.users[pool.tested], pool.score("test"), config, best.step)


def _outcome(users: np.ndarray, test: Scored, config: RunConfig, best: int) -> Outcome:
    if config.objective == "next":
        assert test.ranks is not None
        return Ranked(users, test.ranks, best)
    return Predicted(users, test.labels.astype(np.int8), test.logits, best, test.ranks)


def _copy(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def pooled_banks(banks: Tensors, shares: Tensor, pooling: float) -> Tensors:
    """The steps of the experts' banks, (K, ...) each, pooled as the server pools mean updates.

    Args:
        banks: an expert's summed step of the users who chose it.
        shares: (layers, K) of the users' weight; 0 for an expert that nobody chose.
    """
    weights = shares.double().cpu().numpy()
    means = {
        name: total.double().cpu().numpy() / weights[expert_of(name)]
        for name, total in split_bank(banks).items()
        if weights[expert_of(name)] > 0.0
    }
    pooled = pool_experts(means, weights, pooling)
    return {
        bank: torch.from_numpy(np.stack([pooled[n] for n in expert_names(bank, len(steps))]))
        for bank, steps in banks.items()
    }


class _Pool:
    """The model in training: the network's own parameters, and the users' tables."""

    def __init__(self, network: MRFFNetwork, dataset: Dataset, config: RunConfig) -> None:
        self.network, self.config = network, config
        self.local = replace(
            config, training=replace(config.training, local_learning_rate=1.0, local_steps=1)
        )
        parameters = dict(network.named_parameters())
        fill_statistics(network, dataset, config)
        if config.pools_experts:
            load_shared(network, *initial_shared(network, experts_alike=True))
        self.banks = tensors_of(network, "group").keys()
        names = [n for n in tensors_of(network, "public") if not is_fixed(n)] + [*self.banks]
        self.shared: Tensors = {name: parameters[name] for name in names}
        tested = split_rows(dataset, holdout=config.data.holdout, part="valid").users
        users = training_users(dataset)
        self.tested = np.searchsorted(users, tested)  # rows of them
        tables = {
            name: value.cpu().expand(len(users), *value.shape[1:]).clone()
            for name, value in tensors_of(network, "private").items()
        }
        routes = np.full((len(users), config.routes_shape[0]), -1, dtype=np.int64)
        self.everybody = Cohort(dataset, users, tables, routes)
        self.tables = tables
        self.learning_rates = learning_rates_of(config.server)
        self.optimizer = self._optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.loads: Tensor | None = None

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
        some, at = next(self.network.parameters()), torch.from_numpy(rows)
        model = SharedModel(number, {}, {}, self.loads)
        work = work_on(model, self.everybody.part(rows), self.local, some)
        weights = work.user_weights
        used = torch.from_numpy(weights / weights.sum()).float().to(some.device)
        outcome = one_sgd_step(self.network, self.shared, replace(work, weights=used))
        if outcome.update is None:
            raise FloatingPointError("pooled training diverged; lower server-learning-rate")
        shares = torch.einsum("u,ulk->lk", used, outcome.visited.to(used))
        steps = outcome.update
        if self.config.pools_experts:
            banks = {name: steps[name] for name in self.banks}
            steps = {**steps, **pooled_banks(banks, shares, self.config.server.expert_pooling)}
        for name, parameter in self.shared.items():
            parameter.grad = -steps[name].to(parameter)
        self.optimizer.step()
        for name, values in outcome.private.items():
            self.tables[name][at] = values.detach().cpu()
        return outcome.routes.cpu().numpy()

    def score(self, part: Part) -> Scored:
        cohort = self.everybody.part(self.tested)
        return CohortLearner(self.network, self.config).score_as_loaded(cohort, part)

    def trained(self) -> Tensors:
        """Everything that is trained, itself."""
        return {**{n: p.detach() for n, p in self.shared.items()}, **self.tables}

    def _optimizer(self) -> torch.optim.Optimizer:
        """Adam with the server's settings; gates and item biases have their own rates, too."""
        server, factor = self.config.server, self.learning_rates.of_array
        groups = [
            {"params": [value], "lr": server.server_learning_rate * factor(name)}
            for name, value in self.shared.items()
        ]
        return torch.optim.Adam(
            groups, betas=(server.server_momentum, ADAM_BETA2), eps=ADAM_EPSILON
        )

"""Local training of a whole cohort as a few batched computations; the default trainer.

It gives what `client_app.serial_training` gives, up to float addition: users share a computation,
never a parameter. Users of similar length form chunks of bounded memory.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from client_app.cohort_chunks import ChunkLimits, chunks_of, compute, training_sizes
from client_app.cohort_outcome import Outcome
from client_app.one_step import one_sgd_step
from client_app.own_copies import local_steps
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
from mrff.config import DataSettings, TrainingSettings
from mrff_model.building import load_shared, rows_suffice, tensors_of
from mrff_model.network import MRFFNetwork

# Smaller chunks pay for more calls, larger ones leave the cache (benchmarks/chunk_speed.py).
CACHE_POSITIONS = 4096
DEVICE_POSITIONS = 1 << 20  # a GPU wants large chunks; there memory is the limit


def train_cohort(
    network: MRFFNetwork,
    start: Start,
    cohort: Cohort,
    *,
    data: DataSettings,
    training: TrainingSettings,
) -> Trained:
    """Trains many users at once, on the network's device; see `client_app.training.Trainer`."""
    load_shared(network, start.public, start.group)
    public, bank = (tensors_of(network, scope) for scope in ("public", "group"))
    parameters: Tensors = dict(network.named_parameters())
    shared = {name: parameters[name] for name in [*public, *bank]}
    result = _Result(network, cohort, shared)
    work = partial(_train_chunk, network, shared, start, cohort, data, training)
    waiting = chunks_of(
        training_sizes(cohort.dataset, cohort.users, data), chunk_limits(network, training)
    )
    while waiting:
        again: list[np.ndarray] = []
        for rows, (outcome, targets) in compute(waiting, work):
            finite = outcome.finite.cpu().numpy()
            if outcome.update is not None:
                result.add(rows[finite], outcome, targets[finite], training.user_weighting)
            elif not finite.all():  # the others once more, without those who spoil the sum
                again += [rows[finite]] if finite.any() else []
            elif len(rows) > 1:
                again += np.array_split(rows, 2)
        waiting = again
    return result.trained(public, bank)


def takes_one_sgd_step(network: MRFFNetwork, training: TrainingSettings) -> bool:
    """Whether no user needs a copy of the shared parameters."""
    one_step = training.local_steps == 1 and training.local_optimizer == "sgd"
    return one_step and rows_suffice(network)


def chunk_limits(network: MRFFNetwork, training: TrainingSettings) -> ChunkLimits:
    """The limits that keep a chunk within ``cohort-memory-mb``."""
    on_cpu = next(network.parameters()).device.type == "cpu"
    shared, experts, own = (
        sum(value.numel() for value in tensors_of(network, scope).values())
        for scope in ("public", "group", "private")
    )
    if takes_one_sgd_step(network, training):
        # The chosen experts' weights and their gradients are gathered per user.
        per_user = 4 * own + 3 * experts // network.num_experts
    else:
        copies = 6 if training.local_optimizer == "sgd" else 8
        per_user = copies * (shared + experts + own)
    return ChunkLimits(
        positions=CACHE_POSITIONS if on_cpu else DEVICE_POSITIONS,
        memory=training.cohort_memory_mb * 2**20,
        memory_per_position=4 * network.floats_per_position(),
        memory_per_user=4 * per_user,
    )


def _train_chunk(
    network: MRFFNetwork,
    shared: Tensors,
    start: Start,
    cohort: Cohort,
    data: DataSettings,
    training: TrainingSettings,
    rows: np.ndarray,
) -> tuple[Outcome, np.ndarray]:
    """The outcome of the cohort's users ``rows`` and their numbers of targets."""
    some = next(network.parameters())
    users = cohort.users[rows]
    batch = training_batch(cohort.dataset, users, data)
    targets = batch.mask.sum((1, 2)).numpy()
    weights = torch.from_numpy(user_weights(targets, training.user_weighting)).to(some)
    keys = [
        dropout_keys(training.seed, start.round_number, cohort.dataset.user_keys[users], step)
        for step in range(training.local_steps)
    ]
    at = torch.from_numpy(rows)
    private = {name: values[at].to(some) for name, values in cohort.private.items()}
    batch = batch.map(lambda field: field.to(some.device))
    keys = [key.to(some.device) for key in keys]
    loads = None if start.loads is None else start.loads.to(some)
    if takes_one_sgd_step(network, training):
        outcome = one_sgd_step(
            network, shared, private, batch,
            weights=weights, dropout_key=keys[0], loads=loads, training=training,
        )  # fmt: skip
    else:
        outcome = local_steps(
            network, shared, private, batch,
            weights=weights, dropout_keys=keys, loads=loads, training=training,
        )  # fmt: skip
    return outcome, targets


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
        """Takes in the finite users of a chunk: ``rows`` of the cohort with their targets."""
        assert outcome.update is not None
        for name, update in outcome.update.items():
            self.sums[name] += update
        finite, at = outcome.finite, torch.from_numpy(rows)
        for name, values in outcome.private.items():
            self.private[name][at] = values[finite].to(self.private[name])
        weights = user_weights(targets, weighting)
        routes, visited = (t[finite].cpu().numpy() for t in (outcome.routes, outcome.visited))
        self.routes[rows], self.kept[rows] = routes, True
        self.expert_weight += np.einsum("u,ulk->lk", weights, visited)
        for layer, chosen in enumerate(routes.T):
            self.expert_users[layer] += np.bincount(chosen, minlength=visited.shape[-1])
        self.weight += float(weights.sum())
        self.loss_sum += float(outcome.bce[finite].double().sum())
        self.num_targets += int(targets.sum())

    def trained(self, public: Tensors, bank: Tensors) -> Trained:
        """The sums as a trainer returns them."""
        sums = {name: total.float().cpu() for name, total in self.sums.items()}
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

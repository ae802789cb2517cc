"""Local training as a plain loop over users: it reads like the formulas and is the oracle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from client_app.private_rates import private_rate
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
from mrff_model.building import load_shared, tensors_of
from mrff_model.losses import user_losses
from mrff_model.network import Batch, MRFFNetwork


class _Outcome(NamedTuple):
    """One user's round; the parameters themselves are left in the network."""

    route: np.ndarray  # (layers,) of the first step
    visited: np.ndarray  # (layers, K) bool, experts chosen in any step
    bce: float  # summed over the targets, first step
    finite: bool


def train_serially(
    network: MRFFNetwork,
    start: Start,
    cohort: Cohort,
    *,
    data: DataSettings,
    training: TrainingSettings,
) -> Trained:
    """Trains one user after the other; see `client_app.training.Trainer`."""
    load_shared(network, start.public, start.group)
    public, bank, own = (tensors_of(network, scope) for scope in ("public", "group", "private"))
    shared = public | bank
    begin = {name: value.clone() for name, value in shared.items()}
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in shared.items()}

    num_users, num_layers = len(cohort.users), len(network.layers)
    private = {name: rows.clone() for name, rows in cohort.private.items()}
    expert_weight = np.zeros((num_layers, network.num_experts))
    expert_users = np.zeros((num_layers, network.num_experts), dtype=np.int64)
    routes = np.full((num_users, num_layers), -1, dtype=np.int64)
    kept = np.zeros(num_users, dtype=bool)
    total_weight, loss_sum, num_targets = 0.0, 0.0, 0

    for row in range(num_users):
        users = cohort.users[row : row + 1]
        _copy(shared, begin)
        _copy(own, {name: rows[row : row + 1] for name, rows in cohort.private.items()})
        batch = training_batch(cohort.dataset, users, data)
        outcome = _train_user(
            network, _optimizer(shared, own, network, training, batch), batch,
            cohort.dataset.user_keys[users], start, training, begin,
        )  # fmt: skip
        update = {name: value - begin[name] for name, value in shared.items()}
        if not outcome.finite or not _all_finite([*update.values(), *own.values()]):
            continue

        targets = batch.mask.sum().item()
        weight = float(user_weights(np.array([targets]), training.user_weighting)[0])
        for name, value in update.items():
            sums[name].add_(value, alpha=weight)
        for name, value in own.items():
            private[name][row] = value[0]
        kept[row], routes[row] = True, outcome.route
        expert_weight += weight * outcome.visited
        expert_users[np.arange(num_layers), outcome.route] += 1
        total_weight += weight
        loss_sum += outcome.bce
        num_targets += int(targets)

    return Trained(
        public={name: sums[name].float() for name in public},
        group=chosen_experts({name: sums[name].float() for name in bank}, expert_weight),
        weight=total_weight,
        expert_weight=expert_weight,
        expert_users=expert_users,
        loss_sum=loss_sum,
        num_targets=num_targets,
        private=private,
        routes=routes,
        kept=kept,
    )


def _train_user(
    network: MRFFNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    user_key: np.ndarray,
    start: Start,
    training: TrainingSettings,
    begin: Tensors,
) -> _Outcome:
    """Takes one user's local steps from ``begin``, each on all of his records."""
    visited = np.zeros((len(network.layers), network.num_experts), dtype=bool)
    layers = np.arange(len(network.layers))
    first: tuple[np.ndarray, float] | None = None
    for step in range(training.local_steps):
        key = dropout_keys(training.seed, start.round_number, user_key, step)
        output = network(batch, key)
        loss, bce = user_losses(
            output, batch, balance_weight=training.balance_weight, loads=start.loads
        )
        route = output.routes[0].numpy()
        visited[layers, route] = True
        first = first or (route, bce.item())
        if not torch.isfinite(loss).all():
            return _Outcome(*first[:1], visited, first[1], finite=False)
        optimizer.zero_grad()
        loss.sum().backward()
        _add_proximal(network, begin, training.proximal_weight)
        optimizer.step()
    assert first is not None  # local-steps is at least 1
    return _Outcome(first[0], visited, first[1], finite=True)


def _optimizer(
    shared: Tensors, own: Tensors, network: nn.Module, training: TrainingSettings, batch: Batch
) -> torch.optim.Optimizer:
    """A new optimiser per user and round: a device keeps no optimiser state between rounds."""
    parameters = dict(network.named_parameters())
    groups = [
        {"params": [parameters[n] for n in shared], "lr": training.local_learning_rate},
    ]
    groups += [
        {
            "params": [parameters[name]],
            "lr": float(private_rate(name, training, batch.mask.sum())),
            "weight_decay": training.private_weight_decay,
        }
        for name in own
    ]
    kind = torch.optim.SGD if training.local_optimizer == "sgd" else torch.optim.Adam
    return kind([group for group in groups if group["params"]])


def _add_proximal(network: nn.Module, begin: Tensors, weight: float) -> None:
    """The gradient of mu / 2 |w - w_0|^2 (FedProx: Li et al., MLSys 2020, eq. 2)."""
    if not weight:
        return
    for name, parameter in network.named_parameters():
        if name in begin and parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - begin[name], alpha=weight)


def _copy(into: Tensors, values: Tensors) -> None:
    for name, tensor in into.items():
        tensor.copy_(values[name])


def _all_finite(tensors: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

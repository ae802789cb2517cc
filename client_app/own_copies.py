"""Local steps of many users, each with a copy of the shared parameters: Adam, or several steps.

The first step needs no copies, as all users still stand at the same shared parameters. From then
on every parameter has a row per user, and `torch.func.vmap` turns the network of one user into
that of all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from client_app.cohort_outcome import Outcome, visited_experts
from client_app.private_rates import move, private_rate
from client_app.training import Tensors
from mrff.config import TrainingSettings
from mrff_model.building import parameters_of_one
from mrff_model.losses import user_losses
from mrff_model.network import Batch, MRFFNetwork

Rates = Callable[[str], Tensor | float]  # a parameter's name to its learning rate


class Step(Protocol):
    """Parameters and their gradients to new parameters, or the same ones moved."""

    def __call__(self, parameters: Tensors, gradients: Tensors, *, in_place: bool) -> Tensors: ...


class Changes(NamedTuple):
    """What B users' local steps did, user by user."""

    update: Tensors  # (B, n) each, new minus old, flattened
    private: Tensors  # (B, ...) each, new
    routes: Tensor  # (B, layers) int64, of the first step
    visited: Tensor  # (B, layers, K) bool, experts chosen in any step
    bce: Tensor  # (B,) summed over the targets, first step
    finite: Tensor  # (B,) bool


def local_steps(
    network: MRFFNetwork,
    shared: Tensors,
    private: Tensors,
    batch: Batch,
    *,
    weights: Tensor,
    dropout_keys: Sequence[Tensor],
    loads: Tensor | None,
    training: TrainingSettings,
) -> Outcome:
    """Takes the steps of B users, one for each of ``dropout_keys``; see `one_sgd_step`."""
    each = changes_of_each(
        network, shared, private, batch, dropout_keys=dropout_keys, loads=loads, training=training
    )
    kept = each.finite
    if kept.all():  # as nearly always: no copy of all that changed
        sums = {name: weights @ change for name, change in each.update.items()}
    else:
        sums = {name: weights[kept] @ change[kept] for name, change in each.update.items()}
    update = {name: total.view_as(shared[name]) for name, total in sums.items()}
    return Outcome(update, each.private, each.routes, each.visited, each.bce, kept)


@torch.no_grad()  # a parameter of no width is in no scope; it must not drag a graph along
def changes_of_each(
    network: MRFFNetwork,
    shared: Tensors,
    private: Tensors,
    batch: Batch,
    *,
    dropout_keys: Sequence[Tensor],
    loads: Tensor | None,
    training: TrainingSettings,
) -> Changes:
    """Takes the steps of B users and keeps their changes apart, as clipping needs them.

    Args:
        shared: the parameters to train that are not private; others stay as the network holds them.
    """
    gradients_of = grad(loss_of_one(network, training, loads), argnums=(0, 1), has_aux=True)
    begin = {name: value.detach() for name, value in shared.items()}
    make = _sgd if training.local_optimizer == "sgd" else _adam
    step_shared = make(lambda name: training.local_learning_rate, 0.0)
    targets = batch.mask.sum((1, 2))  # (B,)
    step_own = make(
        lambda name: private_rate(name, training, targets), training.private_weight_decay
    )

    copies, own, rates = begin, private, network.rates_of(batch)
    visited, finite = [], []
    first: tuple[Tensor, Tensor] | None = None
    for number, key in enumerate(dropout_keys):
        batched = vmap(gradients_of, in_dims=(0 if number else None, 0, 0, 0, 0))
        # Frozen parameters are the network's own: nothing is to be recorded for them.
        with torch.no_grad(), warnings.catch_warnings():
            # A few small operations are computed user by user.
            warnings.filterwarnings("ignore", "There is a performance drop")
            (for_shared, for_own), (routes, bce, loss) = batched(copies, own, batch, key, rates)
        if training.proximal_weight and number:  # the first step stands where it began
            for name, gradient in for_shared.items():
                gradient.add_(copies[name] - begin[name], alpha=training.proximal_weight)
        first = first or (routes, bce)
        visited.append(visited_experts(routes, network.num_experts))
        finite.append(torch.isfinite(loss))
        copies, own = (
            step_shared(copies, for_shared, in_place=number > 0),
            step_own(own, for_own, in_place=number > 0),
        )
    assert first is not None  # local-steps is at least 1

    changes = {name: copies.pop(name).sub_(begin[name]).flatten(1) for name in begin}
    rows = [*changes.values(), *(values.view(len(values), -1) for values in own.values())]
    finite += [torch.isfinite(values).all(1) for values in rows]
    kept = torch.stack(finite).all(0)
    return Changes(changes, own, first[0], torch.stack(visited).any(0), first[1], kept)


def loss_of_one(
    network: MRFFNetwork, training: TrainingSettings, loads: Tensor | None
) -> Callable[..., Any]:
    """One user's loss as a function of his parameters, records, dropout key and rates.

    The rates are `MRFFNetwork.rates_of` his records; without them they are computed here.
    """

    def loss_of(
        shared: Tensors,
        own: Tensors,
        record: Batch,
        key: Tensor,
        rates: list[Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        batch = record.map(lambda field: field[None])
        known = None if rates is None else [rate[None] for rate in rates]
        output = functional_call(
            network, shared | parameters_of_one(own), (batch, key[None]), {"rates": known}
        )
        losses, bce = user_losses(
            output, batch, balance_weight=training.balance_weight, loads=loads
        )
        return losses[0], (output.routes[0], bce[0], losses[0].detach())

    return loss_of


def _sgd(rate_of: Rates, weight_decay: float) -> Step:
    def step(parameters: Tensors, gradients: Tensors, *, in_place: bool) -> Tensors:
        new = {}
        for name, value in parameters.items():
            gradient = _with_decay(gradients[name], value, weight_decay)
            new[name] = move(value, gradient, rate_of(name), in_place=in_place)
        return new

    return step


def _with_decay(gradient: Tensor, value: Tensor, weight_decay: float) -> Tensor:
    """The gradient with that of the decay; as it came, and not copied, where there is none."""
    return gradient.add(value, alpha=weight_decay) if weight_decay else gradient


def _adam(rate_of: Rates, weight_decay: float) -> Step:
    """As `torch.optim.Adam` with its own defaults (Kingma and Ba, ICLR 2015)."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    means: Tensors = {}
    squares: Tensors = {}
    steps = 0

    def step(parameters: Tensors, gradients: Tensors, *, in_place: bool) -> Tensors:
        nonlocal steps
        steps += 1
        new = {}
        for name, value in parameters.items():
            gradient = _with_decay(gradients[name], value, weight_decay)
            if steps == 1:
                means[name], squares[name] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            means[name].lerp_(gradient, 1.0 - beta1)
            squares[name].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
            scale = (squares[name].sqrt() / (1.0 - beta2**steps) ** 0.5).add_(epsilon)
            direction = means[name] / (1.0 - beta1**steps) / scale
            new[name] = move(value, direction, rate_of(name), in_place=in_place)
        return new

    return step

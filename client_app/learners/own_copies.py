"""Local steps of many users, each with a copy of the shared parameters: Adam, or several steps.

The first step needs no copies, as all users still stand at the same shared parameters. From then
on every parameter has a row per user, and `torch.func.vmap` turns the network of one user into
that of all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from client_app.learners.base import Work
from client_app.learners.rates import move, private_rate
from mrff.config import TrainingSettings
from mrff.sums import Outcome, Tensors
from mrff.sums.outcome import visited_experts
from mrff_model.batch import Batch
from mrff_model.building import parameters_of_one
from mrff_model.losses import LossWeights, user_losses
from mrff_model.network import Beforehand, MRFFNetwork

Rates = Callable[[str], Tensor | float]  # a parameter's name to its learning rate


@contextmanager
def quiet_vmap() -> Iterator[None]:
    """Without its warnings that a few small operations are computed user by user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


def summed(outcome: Outcome, shared: Tensors, weights: Tensor) -> Outcome:
    """The outcome with the weighted sum of its users' changes in their place."""
    assert outcome.changes is not None
    kept, changes = outcome.finite, outcome.changes
    if not kept.all():  # seldom: otherwise there is no copy of all that changed
        weights, changes = weights[kept], {name: c[kept] for name, c in changes.items()}
    update = {name: (weights @ c).view_as(shared[name]) for name, c in changes.items()}
    return outcome._replace(update=update, changes=None)


@torch.no_grad()  # a parameter of no width is in no scope; it must not drag a graph along
def changes_of_each(network: MRFFNetwork, shared: Tensors, work: Work) -> Outcome:
    """Takes the steps of B users and keeps their changes apart, as clipping needs them.

    Args:
        shared: the parameters to train that are not private; others stay as the network holds them.
    """
    training, batch = work.training, work.batch
    gradients_of = grad(loss_of_one(network, work.loss, work.loads), argnums=(0, 1), has_aux=True)
    begin = {name: value.detach() for name, value in shared.items()}
    targets = batch.mask.sum((1, 2))  # (B,)
    step_shared = _step_of(training, lambda name: training.local_learning_rate, 0.0)
    step_own = _step_of(
        training,
        lambda name: private_rate(name, training, targets),
        training.private_weight_decay,
    )
    rates = network.rates_of(batch) if work.rates is None else work.rates
    copies, own = begin, work.private
    routes_of, losses, bce_of = [], [], []
    for number, key in enumerate(work.dropout_keys):
        batched = vmap(gradients_of, in_dims=(0 if number else None, 0, 0, 0, 0))
        with quiet_vmap():
            (for_shared, for_own), (routes, bce, loss) = batched(copies, own, batch, key, rates)
        if training.proximal_weight and number:  # the first step stands where it began
            for name, gradient in for_shared.items():
                gradient.add_(copies[name] - begin[name], alpha=training.proximal_weight)
        routes_of.append(routes)
        bce_of.append(bce)
        losses.append(torch.isfinite(loss))
        in_place = number > 0
        copies = step_shared.take(copies, for_shared, in_place=in_place)
        own = step_own.take(own, for_own, in_place=in_place)

    changes = {name: copies.pop(name).sub_(begin[name]).flatten(1) for name in begin}
    rows = [*changes.values(), *(values.view(len(values), -1) for values in own.values())]
    # A sum is not finite where a number is not: one pass, where asking each is five.
    finite = torch.stack([*losses, *(values.sum(1).isfinite() for values in rows)]).all(0)
    visited = [visited_experts(routes, network.num_experts) for routes in routes_of]
    return Outcome(
        update=None,
        changes=changes,
        private=own,
        routes=routes_of[0],
        visited=torch.stack(visited).any(0),
        bce=bce_of[0],
        finite=finite,
    )


def loss_of_one(
    network: MRFFNetwork, weights: LossWeights, loads: Tensor | None
) -> Callable[..., Any]:
    """One user's loss as a function of their parameters, records, dropout key and rates.

    The rates are `MRFFNetwork.rates_of` the records; without them they are computed here.
    """

    def loss_of(
        shared: Tensors,
        own: Tensors,
        record: Batch,
        key: Tensor,
        rates: list[Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        batch = record.map(lambda field: field[None])
        known = Beforehand(None if rates is None else [rate[None] for rate in rates])
        output = functional_call(
            network, shared | parameters_of_one(own), (batch, key[None]), {"known": known}
        )
        losses, bce = user_losses(output, batch, weights, loads)
        return losses[0], (output.routes[0], bce[0], losses[0].detach())

    return loss_of


def _step_of(training: TrainingSettings, rate_of: Rates, weight_decay: float) -> SgdSteps:
    kind = SgdSteps if training.local_optimizer == "sgd" else AdamSteps
    return kind(rate_of, weight_decay)


@dataclass
class SgdSteps:
    """Plain gradient steps of rows of parameters."""

    rate_of: Rates
    weight_decay: float

    def take(self, parameters: Tensors, gradients: Tensors, *, in_place: bool) -> Tensors:
        """New parameters, or the same ones moved."""
        new = {}
        for name, value in parameters.items():
            gradient = gradients[name]
            if self.weight_decay:  # else as it came, and not copied
                gradient = gradient.add(value, alpha=self.weight_decay)
            direction = self.direction(name, gradient)
            new[name] = move(value, direction, self.rate_of(name), in_place=in_place)
        return new

    def direction(self, name: str, gradient: Tensor) -> Tensor:
        """Where a step goes."""
        return gradient


@dataclass
class AdamSteps(SgdSteps):
    """As `torch.optim.Adam` with its own defaults (Kingma and Ba, ICLR 2015)."""

    means: Tensors = field(default_factory=dict)
    squares: Tensors = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def direction(self, name: str, gradient: Tensor) -> Tensor:
        """See `SgdSteps.direction`."""
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8
        steps = self.steps[name] = self.steps.get(name, 0) + 1
        if steps == 1:
            self.means[name] = torch.zeros_like(gradient)
            self.squares[name] = torch.zeros_like(gradient)
        mean, square = self.means[name], self.squares[name]
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        scale = (square.sqrt() / (1.0 - beta2**steps) ** 0.5).add_(epsilon)
        return mean / (1.0 - beta1**steps) / scale

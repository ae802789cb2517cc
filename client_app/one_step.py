"""One local SGD step of many users as one backward pass, without a copy of anything shared.

All users start from the same shared parameters, and the update of a plain gradient step is
``-lr * gradient``. The weighted sum of the users' updates is therefore ``-lr`` times the gradient
of ``sum_u weight_u * loss_u``. Private parameters have a row per user, and so have their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from client_app.cohort_outcome import Outcome, visited_experts
from client_app.private_rates import move, private_rate
from client_app.training import Tensors
from mrff.config import TrainingSettings
from mrff_model.losses import user_losses
from mrff_model.network import Batch, MRFFNetwork


def one_sgd_step(
    network: MRFFNetwork,
    shared: Tensors,
    private: Tensors,
    batch: Batch,
    *,
    weights: Tensor,
    dropout_key: Tensor,
    loads: Tensor | None,
    training: TrainingSettings,
) -> Outcome:
    """Takes the step of B users.

    Args:
        shared: the network's own parameters that are not private.
        private: (B, ...) each.
        weights: (B,) above 0, of the users in the sum.
        dropout_key: (B,) int64.
        loads: see `user_losses`.
    """
    own = {name: rows.detach().requires_grad_() for name, rows in private.items()}
    output = functional_call(network, own, (batch, dropout_key), {"shared_look_ups": True})
    losses, bce = user_losses(output, batch, balance_weight=training.balance_weight, loads=loads)
    finite = torch.isfinite(losses.detach())
    visited = visited_experts(output.routes, network.num_experts)
    if not finite.all():
        return Outcome(None, private, output.routes, visited, bce, finite)

    leaves = [*shared.values(), *own.values()]
    total = (weights * losses).sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    update = {
        name: gradient.mul_(-training.local_learning_rate)
        for name, gradient in zip(shared, gradients, strict=False)
    }
    new, targets = {}, batch.mask.sum((1, 2))
    for (name, rows), gradient in zip(private.items(), gradients[len(shared) :], strict=True):
        gradient /= weights.view(-1, *[1] * (rows.dim() - 1))
        gradient.add_(rows, alpha=training.private_weight_decay)
        new[name] = move(rows, gradient, private_rate(name, training, targets))
        finite &= torch.isfinite(new[name]).view(len(rows), -1).all(1)
    complete = bool(finite.all()) and all(bool(u.isfinite().all()) for u in update.values())
    return Outcome(update if complete else None, new, output.routes, visited, bce, finite)

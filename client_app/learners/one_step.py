"""One local SGD step of many users as one backward pass, without a copy of anything shared.

All users start from the same shared parameters, and the update of a plain gradient step is
``-lr * gradient``. The weighted sum of the users' updates is therefore ``-lr`` times the gradient
of ``sum_u weight_u * loss_u``. Private parameters have a row per user, and so have their gradients.
"""

from __future__ import annotations

import torch

from client_app.learners.base import Work
from client_app.learners.outputs import Extras, outputs
from client_app.learners.rates import move, private_rate
from mrff.sums import Outcome, Tensors
from mrff.sums.outcome import visited_experts
from mrff_model.losses import user_losses
from mrff_model.network import Beforehand, MRFFNetwork


def one_sgd_step(network: MRFFNetwork, shared: Tensors, work: Work) -> Outcome:
    """Takes the step of B users; ``shared`` are the network's own parameters to train."""
    batch, training, weights = work.batch, work.training, work.weights
    own = {name: rows.detach().requires_grad_() for name, rows in work.private.items()}
    output = outputs(
        network, own, batch, Extras(work.dropout_keys[0], known=Beforehand(work.rates))
    )
    losses, bce = user_losses(output, batch, work.loss, work.loads)
    finite = torch.isfinite(losses.detach())
    visited = visited_experts(output.routes, network.num_experts)
    if not finite.all():
        return Outcome(None, None, work.private, output.routes, visited, bce, finite)

    leaves = [*shared.values(), *own.values()]
    steps = weights * -training.local_learning_rate  # (B,); so no gradient is scaled by itself
    total = (steps * losses).sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    update = dict(zip(shared, gradients, strict=False))
    new: Tensors = {}
    targets = batch.mask.sum((1, 2))
    for (name, rows), gradient in zip(work.private.items(), gradients[len(shared) :], strict=True):
        # Not in place: two parameters' gradients may be one tensor.
        own_gradient = gradient / steps.view(-1, *[1] * (rows.dim() - 1))
        own_gradient.add_(rows, alpha=training.private_weight_decay)
        new[name] = move(rows, own_gradient, private_rate(name, training, targets))
        finite &= new[name].view(len(rows), -1).sum(1).isfinite()
    # A sum is not finite where a number is not: one pass, where asking each is four.
    sums = torch.stack([change.sum() for change in update.values()] or [total.detach()])
    complete = bool(finite.all() & sums.isfinite().all())
    return Outcome(update if complete else None, None, new, output.routes, visited, bce, finite)

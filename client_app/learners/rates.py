"""How far one gradient step moves what is a user's own."""

from __future__ import annotations

from torch import Tensor

from mrff.config import TrainingSettings


def private_rate(name: str, training: TrainingSettings, num_targets: Tensor) -> Tensor | float:
    """The learning rate of a private parameter, for each user where it differs by user.

    A loss is a mean over a user's n targets, so that a plain step trusts five targets as much as
    five hundred. The user's factors are many numbers: they move by ``rate * n / (n + prior)``,
    about ``rate / prior`` per target. This is how a normal prior around "no taste of their own"
    weighs data (Salakhutdinov and Mnih, "Probabilistic matrix factorization", NIPS 2007), with
    early stopping in place of the prior's own gradient. Adam's steps know no scale: with it the
    factors move at ``private-learning-rate`` as everything private.

    Args:
        name: of the network's parameter.
        num_targets: (U,) or (), targets that the users' loss is a mean over.

    Returns:
        A tensor shaped as ``num_targets``, or one rate for everybody.
    """
    if name != "user_factors" or training.local_optimizer == "adam":
        return training.private_learning_rate
    targets = num_targets.float().clamp(min=1.0)
    return training.user_factors_learning_rate * targets / (targets + training.user_factors_prior)


def move(rows: Tensor, gradient: Tensor, rate: Tensor | float, *, in_place: bool = False) -> Tensor:
    """``rows - rate * gradient`` for rows (U, ...) and one rate, or one (U,) for each row."""
    if isinstance(rate, Tensor):
        gradient = gradient * rate.to(rows).view(-1, *[1] * (rows.dim() - 1))
        rate = 1.0
    return rows.sub_(gradient, alpha=rate) if in_place else rows.sub(gradient, alpha=rate)

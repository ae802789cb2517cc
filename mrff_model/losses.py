"""What a user's training step minimises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.batch import Batch, Output


@dataclass(frozen=True)
class LossWeights:
    """What each part of the loss counts; a head that the network lacks counts 0."""

    balance: float  # alpha of the gates' balance loss
    click: float = 1.0
    next: float = 0.0
    liked_only: bool = False  # only what the user liked is to be predicted as the next item
    gates_follow: bool = False  # gates learn to say the groups that evidence chose


def user_losses(
    output: Output, batch: Batch, weights: LossWeights, loads: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean loss over a user's targets, plus the balance loss of the gates.

    A target costs the BCE of its click, the surprise of its being the next item, or both. The
    balance loss is alpha * K * sum_l f_{l,k_l} * p_l (after Fedus et al., JMLR 2022, eq. 4): it
    makes the crowded experts of the previous round less likely.

    Args:
        output: of the network on ``batch``, B users.
        loads: (layers, K) f, share of users per expert in the previous round; None: unknown.

    Returns:
        The loss to minimise (B,), and what the targets cost in all (B,).
    """
    counts = batch.mask.to(output.logits.dtype)
    costs = torch.zeros_like(counts)
    if weights.click:
        labels = batch.labels.to(output.logits.dtype)
        costs = F.binary_cross_entropy_with_logits(output.logits, labels, reduction="none") * counts
        costs = costs if weights.click == 1.0 else costs * weights.click
    sums, number = costs.sum((1, 2)), counts.sum((1, 2)).clamp(min=1.0)
    losses = sums / number
    if weights.next:
        wanted = counts * batch.labels.to(counts.dtype) if weights.liked_only else counts
        surprise = (output.surprise * wanted).sum((1, 2))
        share = number / wanted.sum((1, 2)).clamp(min=1.0)  # all count alike, however few
        sums = sums + weights.next * surprise * share
        losses = sums / number
    if weights.gates_follow:  # the mean over targets of -log p(labels, groups)
        losses = losses - output.chosen.clamp(min=1e-12).log().sum(-1) / number
    if loads is not None and weights.balance:
        layers = torch.arange(output.routes.shape[1], device=loads.device)
        crowding = loads[layers, output.routes]  # (B, layers)
        losses = losses + weights.balance * loads.shape[1] * (crowding * output.chosen).sum(-1)
    return losses, sums.detach()

"""What a user's training step minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.network import Batch, Output


def user_losses(
    output: Output, batch: Batch, *, balance_weight: float, loads: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean BCE over a user's targets, plus the balance loss of the gates.

    The balance loss is alpha * K * sum_l f_{l,k_l} * p_l (after Fedus et al., JMLR 2022, eq. 4): it
    makes the crowded experts of the previous round less likely.

    Args:
        output: of the network on ``batch``, B users.
        balance_weight: alpha.
        loads: (layers, K) f, share of users per expert in the previous round; None: unknown.

    Returns:
        The loss to minimise (B,), and the BCE alone summed over the targets (B,).
    """
    labels = batch.labels.to(output.logits.dtype)
    bce = F.binary_cross_entropy_with_logits(output.logits, labels, reduction="none")
    counts = batch.mask.to(bce.dtype)
    sums = (bce * counts).sum((1, 2))
    losses = sums / counts.sum((1, 2)).clamp(min=1.0)
    if loads is not None and balance_weight:
        layers = torch.arange(output.routes.shape[1], device=loads.device)
        crowding = loads[layers, output.routes]  # (B, layers)
        losses = losses + balance_weight * loads.shape[1] * (crowding * output.chosen).sum(-1)
    return losses, sums.detach()

"""What experts say that stand at the prediction, one bank per layer: `mrff_model.evidence`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrff_model.block import Block, place_of
from mrff_model.dropout import Dropout


def said(blocks: Sequence[Block], embedded: Tensor) -> Tensor:
    """What each expert says of targets (B, W, T, item width): (B, W, T, layers, K)."""
    return torch.stack([block.experts.of_all(embedded) for block in blocks], dim=-2)


def said_by_chosen(
    blocks: Sequence[Block], embedded: Tensor, groups: Tensor, dropout: Dropout
) -> Tensor:
    """What the experts of users' groups (B, layers) add to the logits of targets, (B, W, T)."""
    added = embedded.new_zeros(embedded.shape[:-1])
    for number, block in enumerate(blocks):
        place = dropout.at(place_of(number) + 1)
        added = added + block.experts(embedded, groups[:, number], place).squeeze(-1)
    return added


def met(blocks: Sequence[Block], embedded: Tensor) -> Tensor | None:
    """The gates of somebody who has met a target and nothing else, (B, W, T, layers, K).

    Returns:
        None where a gate does not read items.
    """
    experts = blocks[0].gate.linear.out_features
    below = embedded.new_zeros(*embedded.shape[:-1], experts)
    found = []
    for block in blocks:
        if not block.gate.reads_items:
            return None
        below = block.gate.of_items(embedded, below)
        found.append(below)
    return torch.stack(found, dim=-2)

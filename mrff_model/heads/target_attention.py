"""Deep interest network: the target asks which items of the history speak of it.

The sum of the history's items, each weighted by a small network of target and item (Zhou et al.,
"Deep interest network for click-through rate prediction", KDD 2018, eq. 3), takes the place of a
state. Weights are not normalised, as there: many like items count more than one. Unlike there an
item comes with its label, and target t reads the positions to t alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import Dropout
from mrff_model.heads.base import FEEDBACK_CODES, HeadSizes, Seen
from mrff_model.heads.mlp import MlpHead

UNIT_DIM = 16  # inner width of the activation unit


class TargetAttentionHead(MlpHead):
    """The head `MlpHead` with the user's interest in the target as its state."""

    reads_states = False

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__(replace(sizes, states=sizes.items))
        self.unit = nn.Linear(4 * sizes.items, UNIT_DIM)
        self.weigh = nn.Linear(UNIT_DIM, 1)
        self.feedback = nn.Embedding(FEEDBACK_CODES, sizes.items) if sizes.has_feedback else None
        if self.feedback is not None:
            nn.init.zeros_(self.feedback.weight)

    def forward(self, seen: Seen, dropout: Dropout) -> Tensor:
        """See `Head.forward`."""
        return super().forward(seen._replace(states=self.interest(seen)), dropout)

    def interest(self, seen: Seen) -> Tensor:
        """(B, W, T, item width): sum over items e of the history of a(target, e) e."""
        items = seen.history
        if self.feedback is not None:
            items = items + self.feedback(seen.feedback)
        weights = self._activations(seen.targets, items)  # (B, W, T, L)
        reads = seen.is_item.unsqueeze(-2)  # (B, W, 1, L)
        if not seen.newest:
            places = torch.arange(items.shape[2], device=items.device)
            reads = reads & (places <= places.unsqueeze(-1))
        return (weights * reads) @ items

    def _activations(self, targets: Tensor, items: Tensor) -> Tensor:
        """(B, W, T, L) of a unit over target, item, their difference and their product.

        The first layer is linear: what is of the target or of the item alone is not computed for
        every pair.
        """
        of_target, of_item, of_difference, of_product = self.unit.weight.chunk(4, dim=1)
        asked = F.linear(targets, of_target + of_difference, self.unit.bias)  # (B, W, T, inner)
        told = F.linear(items, of_item - of_difference)  # (B, W, L, inner)
        scaled = (targets.unsqueeze(-2) * of_product).flatten(2, 3)  # (B, W, T inner, item width)
        both = (scaled @ items.transpose(-1, -2)).unflatten(2, (-1, UNIT_DIM))
        inner = F.relu(both + asked.unsqueeze(-1) + told.transpose(-1, -2).unsqueeze(2))
        return (self.weigh.weight @ inner).squeeze(-2) + self.weigh.bias  # from (B, W, T, inner, L)

    def floats_per_position(self, length: int) -> int:
        """See `Head.floats_per_position`."""
        return super().floats_per_position(length) + (4 * UNIT_DIM + 4) * length

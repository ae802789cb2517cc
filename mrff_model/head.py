"""The prediction layer: what is known of a position, its target and the user, as one logit."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import Dropout


class Head(nn.Module):
    """An MLP with one hidden layer; (B, W, T, inputs) -> (B, W, T)."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, inner)
        self.down = nn.Linear(inner, 1)

    def forward(self, seen: Tensor, dropout: Dropout) -> Tensor:
        """The logits."""
        inner = dropout(F.relu(self.up(seen)))  # (B, W, T, inner)
        return self.down(inner).squeeze(-1)

    def floats_per_position(self) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        return 2 * self.up.in_features + 4 * self.up.out_features

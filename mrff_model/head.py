"""The prediction layer: what is known of a position, its target and the user, as one logit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import Dropout


class Head(nn.Module):
    """An MLP with one hidden layer; parts (B, W, T, ...) side by side -> (B, W, T).

    A part (B, W, 1, ...) is the same for all T: it is multiplied once.
    """

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, inner)
        self.down = nn.Linear(inner, 1)

    def forward(self, parts: Sequence[Tensor], dropout: Dropout) -> Tensor:
        """The logits."""
        inner = dropout(F.relu(self._inner(parts)))  # (B, W, T, inner)
        return self.down(inner).squeeze(-1)

    def _inner(self, parts: Sequence[Tensor]) -> Tensor:
        if len({part.shape[2] for part in parts}) == 1:
            return self.up(torch.cat(list(parts), dim=-1))
        most = max(part.shape[2] for part in parts)
        weights = self.up.weight.split([part.shape[-1] for part in parts], dim=1)
        apart = [(p, w) for p, w in zip(parts, weights, strict=True) if p.shape[2] == most]
        alike = [F.linear(p, w) for p, w in zip(parts, weights, strict=True) if p.shape[2] < most]
        own, weight = (torch.cat(list(some), dim=-1) for some in zip(*apart, strict=True))
        return F.linear(own, weight) + (sum(alike) + self.up.bias)

    def floats_per_position(self) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        return 2 * self.up.in_features + 4 * self.up.out_features

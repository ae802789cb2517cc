"""The prediction layer: what is known of a position, its target and the user, as one logit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import Dropout
from mrff_model.heads.base import Head, HeadSizes, Seen


class MlpHead(Head):
    """An MLP with one hidden layer on everything side by side.

    A part (B, W, 1, ...) is the same for all T: it is multiplied once.
    """

    reads_states, reads_items = True, True

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__(sizes)
        inputs = sizes.states + sizes.items + sizes.users + len(sizes.start)
        self.up = nn.Linear(inputs, sizes.inner)
        self.down = nn.Linear(sizes.inner, 1)
        self.linear = nn.Linear(len(sizes.start), 1, bias=False) if sizes.has_path else None
        if self.linear is not None:
            self.linear.weight = nn.Parameter(torch.tensor([sizes.start]))

    def forward(self, seen: Seen, dropout: Dropout) -> Tensor:
        """See `Head.forward`."""
        parts = [seen.states, seen.targets, seen.users, *seen.inputs]
        inner = dropout(F.relu(self._inner(parts)))  # (B, W, T, inner)
        logits: Tensor = self.down(inner).squeeze(-1)
        if self.linear is None:
            return logits
        weights = self.linear.weight.split([part.shape[-1] for part in seen.inputs], dim=1)
        for part, weight in zip(seen.inputs, weights, strict=True):
            logits = logits + F.linear(part, weight).squeeze(-1)
        return logits

    def _inner(self, parts: Sequence[Tensor]) -> Tensor:
        # Told apart by size 1 alone: an exported network takes any other number of targets.
        is_alike = [part.shape[2] == 1 for part in parts]
        if all(is_alike) or not any(is_alike):
            return self.up(torch.cat(list(parts), dim=-1))
        weights = self.up.weight.split([part.shape[-1] for part in parts], dim=1)
        pairs = list(zip(parts, weights, is_alike, strict=True))
        apart = [(part, weight) for part, weight, is_one in pairs if not is_one]
        alike = [F.linear(part, weight) for part, weight, is_one in pairs if is_one]
        own, weight = (torch.cat(list(some), dim=-1) for some in zip(*apart, strict=True))
        return F.linear(own, weight) + (sum(alike) + self.up.bias)

    def floats_per_position(self, length: int) -> int:
        """See `Head.floats_per_position`."""
        return 2 * self.up.in_features + 4 * self.up.out_features

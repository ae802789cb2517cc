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

    Args:
        start: of the inputs that also reach the logit by a linear path, what each counts there to
            begin with; none: there is no such path.
    """

    def __init__(self, inputs: int, inner: int, start: Sequence[float] = ()) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, inner)
        self.down = nn.Linear(inner, 1)
        self.linear = nn.Linear(len(start), 1, bias=False) if start else None
        if self.linear is not None:
            self.linear.weight = nn.Parameter(torch.tensor([list(start)]))

    def forward(
        self, parts: Sequence[Tensor], dropout: Dropout, direct: Sequence[Tensor] = ()
    ) -> Tensor:
        """The logits; ``direct`` are the parts with a linear path, if the head has one."""
        inner = dropout(F.relu(self._inner(parts)))  # (B, W, T, inner)
        logits: Tensor = self.down(inner).squeeze(-1)
        if self.linear is None:
            return logits
        weights = self.linear.weight.split([part.shape[-1] for part in direct], dim=1)
        for part, weight in zip(direct, weights, strict=True):
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

    def floats_per_position(self) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        return 2 * self.up.in_features + 4 * self.up.out_features

"""Logistic regression on the columns that need no parameters of their own.

Its gradient is a sum over rows, so that a federation learns what one place with all rows would. It
starts as an additive model (`mrff_model.inputs.starts_of`), like the linear path of other heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrff_model.dropout import Dropout
from mrff_model.heads.base import Head, HeadSizes, Seen


class LinearHead(Head):
    """``w . x + b`` of the inputs x, and nothing else."""

    reads_states, reads_items = False, False

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__(sizes)
        if not sizes.start:
            raise ValueError(
                "network.head=linear reads own rates, item statistics and times, and all are off; "
                "use network.history-rates=true"
            )
        self.down = nn.Linear(len(sizes.start), 1)
        with torch.no_grad():
            self.down.weight.copy_(torch.tensor([sizes.start]))
            self.down.bias.zero_()

    def forward(self, seen: Seen, dropout: Dropout) -> Tensor:
        """See `Head.forward`; nothing is dropped."""
        shape = seen.targets.shape[:3]
        parts = [part.expand(*shape, part.shape[-1]) for part in seen.inputs]
        logits: Tensor = self.down(torch.cat(parts, dim=-1).to(self.down.weight)).squeeze(-1)
        return logits

    def floats_per_position(self, length: int) -> int:
        """See `Head.floats_per_position`."""
        return 3 * self.down.in_features

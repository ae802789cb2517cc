"""What is known of every item before training begins: sums over all users, and what follows.

Fixed public arrays: they travel, are saved and exported with the public parameters, and no round
moves them. A run fills them before its first round (`strategies.statistics_phase`); until then
they say nothing, and what reads them reads zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE_WEIGHT = 5.0  # interactions that the overall rate counts for in an item's
ITEM_RIDGE = 50.0  # users that the prior counts for in an item's vector
MOST_LEVERAGE = 0.9  # of one user on an item's vector


class ItemStatistics(nn.Module):
    """Counts, and vectors that users' tastes are fitted to.

    Attributes:
        rates: (items + 1, 2) how often an item was met in training, and liked.
        prior: (2,) share of all these interactions that was liked; mean square of `residuals`.
        vectors: (items + 1, d) of items, in coordinates in which users' tastes are N(0, I).
    """

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.rates = _fixed(torch.zeros(rows, 2))
        self.prior = _fixed(torch.tensor([0.5, 0.25]))
        self.vectors = _fixed(torch.zeros(rows, dim)) if dim else None

    def rest(self, items: Tensor, labels: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Others' liking of the items that rows are about, and how many others there are.

        A row that was counted is taken out, so that its own label is not in its item's rate.

        Args:
            items, labels, counted: (...) of rows; whether a row is in `rates`.
        """
        known = self.rates[items]  # (..., 2)
        count = (known[..., 0] - counted).clamp(min=0.0)
        liked = (known[..., 1] - counted * labels).clamp(min=0.0)
        return (liked + RATE_WEIGHT * self.prior[0]) / (count + RATE_WEIGHT), count

    def residuals(self, items: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        """Label less what others make of the item."""
        return labels - self.rest(items, labels, counted)[0]


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)

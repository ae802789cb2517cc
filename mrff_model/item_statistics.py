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
NARROWEST = 0.01  # a rate keeps this distance from 0 and 1
MOST_LEVERAGE = 0.9  # of one user on an item's vector


class ItemStatistics(nn.Module):
    """Counts, and vectors that users' tastes are fitted to.

    Attributes:
        rates: (items + 1, 2) how often an item was met in training, and liked. With noise: weights
            of rows instead of numbers, and what is below 0 by noise stays so, because a user's own
            rows are taken out first.
        prior: (2,) share of all these interactions that was liked; mean square of `residuals`.
        noise: (2,) mean weight of a row, and variance of the noise in an item's liked weight above
            the prior's; None: there is no noise.
        vectors: (items + 1, d) of items, in coordinates in which users' tastes are N(0, I).
    """

    def __init__(self, rows: int, dim: int, *, noised: bool = False) -> None:
        super().__init__()
        self.rates = _fixed(torch.zeros(rows, 2))
        self.prior = _fixed(torch.tensor([0.5, 0.25]))
        self.noise = _fixed(torch.ones(2)) if noised else None
        self.vectors = _fixed(torch.zeros(rows, dim)) if dim else None

    def rest(self, items: Tensor, labels: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Others' liking of the items that rows are about, and how many others there are.

        A row that was counted is taken out, so that its own label is not in its item's rate.

        Args:
            items, labels, counted: (...) of rows; what a row counts for in `rates`, 0 or 1 or its
                user's weight.
        """
        known = self.rates[items]  # (..., 2)
        return self.rate_of(known[..., 0] - counted, known[..., 1] - counted * labels)

    def rate_of(
        self, count: Tensor, liked: Tensor, weight: float = RATE_WEIGHT, items: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The share that was liked, and of how many rows.

        Args:
            count, liked: (...) sums of `rates` over so many ``items``, without some rows.
            weight: interactions that the overall rate counts for.
        """
        if self.noise is not None:
            return self._without_noise(count, liked, weight, self.noise[1] * items)
        count, liked = count.clamp(min=0.0), liked.clamp(min=0.0)
        return (liked + weight * self.prior[0]) / (count + weight), count

    def _without_noise(
        self, count: Tensor, liked: Tensor, weight: float, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of noisy sums of weights: the rate, and how many exact rows would say as much.

        The posterior mean of a rate with variance 1 / (4 ``weight``) among items, of which labels
        with variance 1 / 4 and the noise are seen. What counts for little, by noise below 0 even,
        is near the prior.
        """
        assert self.noise is not None
        above = liked - self.prior[0] * count
        met = count.clamp(min=0.0)
        prior = weight * (self.noise[0] * met + 4.0 * variance)  # its weight, times ``met``
        rate = self.prior[0] + above * met / (met.square() + prior)
        return rate.clamp(0.0, 1.0), weight * met.square() / prior

    def residuals(self, items: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
        """Label less what others make of the item."""
        return labels - self.rest(items, labels, counted)[0]


def logit_of(rate: Tensor) -> Tensor:
    """Log-odds of rates, finite ones."""
    return torch.logit(rate.clamp(NARROWEST, 1.0 - NARROWEST))


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)

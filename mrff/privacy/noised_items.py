"""Item statistics of a private run: one noisy sum before the first round, a user's share bounded.

A user adds two numbers to every item they have met: `MET` of a weight for each row, and the weight
itself with the sign of the row's label. The weight is the user's own, such that all their numbers
together have an L2 norm of at most 1 whatever the labels are. It stays on the node, which can so
take out exactly what a row has added (`mrff_model.item_statistics`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.privacy.accounting import Release
from mrff.sums import CohortSums, Expected, Quantity, require
from mrff.sums.expected import require_arrays

Floats = NDArray[np.float64]
ITEMS = "items"
MET = 0.5  # of a row's weight: counts are needed less exactly than labels (docs/inputs.md)
_ROUNDING = 1.0 + 1e-4


class NoisyRates(NamedTuple):
    """What `ItemStatistics` holds, as it came out of the noisy sum."""

    rates: Floats  # (items, 2) weight of all rows, and of the liked ones; below 0 by noise as well
    liked: float  # share of the weight that was liked
    noise: Floats  # (2,) mean weight of a row; variance of the noise in what is liked above that


class NoisyItems:
    """Both ends of it.

    Args:
        config: of the run.
    """

    def __init__(self, config: RunConfig) -> None:
        self.deviation = config.privacy.item_noise
        self.release = Release(self.deviation)

    def weights(self, squares: Floats) -> Floats:
        """What a row of each user (U,) counts for.

        Args:
            squares: (U,) sums over items of the squared number of the user's rows of that item,
                which bound the norm also where a user has met an item twice; 0: no rows.
        """
        return np.where(squares > 0.0, 1.0 / np.sqrt((1.0 + MET**2) * np.maximum(squares, 1.0)), 0)

    def vector(self, items: NDArray[np.int64], signed: Floats, size: int) -> Floats:
        """(size, 2) sum over rows (n,).

        Args:
            items: codes from 1.
            signed: the weight of each row's user, below 0 where the label is 0.
        """
        columns = (MET * np.abs(signed), signed)
        return np.stack([np.bincount(items, c, minlength=size + 1)[1:] for c in columns], axis=1)

    def expected(self, items: int) -> Expected:
        """Of every node: its vector, and of how many people it is, which is public."""
        return Expected({ITEMS: (items, 2)}, {"units": Quantity(whole=True)})

    def check(self, sums: CohortSums) -> None:
        """Raises BadReplyError for what no users can add up to."""
        require_arrays(sums.updates.keys(), {ITEMS})
        units, norm = sums.number("units"), float(np.linalg.norm(sums.updates[ITEMS]))
        require(
            norm <= units * _ROUNDING, f"the items of {units} users of norm 1 have norm {norm:g}"
        )

    def measured(self, sums: CohortSums) -> NoisyRates:
        """What a noisy sum says; nothing is mended here, rows are taken out before that."""
        met, signed = sums.updates[ITEMS][:, 0] / MET, sums.updates[ITEMS][:, 1]
        liked, total = (met + signed) / 2.0, max(float(met.sum()), 1.0)
        share = min(max(float(liked.sum()) / total, 0.0), 1.0)
        # Users of n rows have the weight 1 / sqrt((1 + MET^2) n): their squares add up to a number
        # that is known, and weight squared over weight is the mean weight of a row.
        row = sums.number("units") / (1.0 + MET**2) / total
        variance = self._variance(sums) * (0.25 + (0.5 - share) ** 2 / MET**2)
        return NoisyRates(np.stack([met, liked], axis=1), share, np.array([row, variance]))

    def _variance(self, sums: CohortSums) -> float:
        """Of the noise in each number."""
        return self.deviation**2

"""EASE (Steck, WWW 2019): every item from all the others of the same user, in closed form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.linear.base import Matrix, decay, symmetric, triangle, triangle_size
from mrff.linear.sequences import Sequences

RIDGE = 300.0  # the best of 100, 300 and 1000 by validation on ml-100k and ml-1m


class Ease:
    """B = I - P diag(1 / P_jj) with P = (X'X + ridge I)^-1, X which user met which item."""

    name = "ease"
    ages = decay(0.9, 50)  # in scoring only: together in a history knows no order

    def __init__(self, ridge: float = RIDGE) -> None:
        self._ridge = ridge

    def shapes(self, size: int) -> Mapping[str, tuple[int, ...]]:
        """See `LinearModel.shapes`."""
        return {"ease.together": (triangle_size(size),)}

    def sums(self, sequences: Sequences) -> dict[str, Matrix]:
        """See `LinearModel.sums`."""
        met = sequences.whole()
        return {"ease.together": triangle((met.T @ met).toarray())}

    def solve(self, sums: Mapping[str, Matrix], size: int) -> Matrix:
        """See `LinearModel.solve`."""
        together = symmetric(sums["ease.together"], size)
        inverse = np.linalg.inv(together + self._ridge * np.eye(size))
        weights: Matrix = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        return weights

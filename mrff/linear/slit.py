"""SLIT: the next item by ridge regression on the decayed history (Choi et al., WWW 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mrff.linear.base import Matrix, decay, symmetric, triangle, triangle_size
from mrff.linear.sequences import Sequences

RIDGE = 300.0  # the best of 100, 300 and 1000 by validation on ml-100k and ml-1m
AGES = decay(0.8, 30)


class Slit:
    """W = (D'D + ridge I)^-1 D'Y: rows of D are sequences before an item, rows of Y that item."""

    name = "slit"
    ages = AGES

    def __init__(self, ridge: float = RIDGE, ages: NDArray[np.float64] = AGES) -> None:
        self._ridge, self.ages = ridge, ages

    def shapes(self, size: int) -> Mapping[str, tuple[int, ...]]:
        """See `LinearModel.shapes`."""
        return {"slit.gram": (triangle_size(size),), "slit.next": (size, size)}

    def sums(self, sequences: Sequences) -> dict[str, Matrix]:
        """See `LinearModel.sums`."""
        users, places = sequences.targets()
        history = sequences.before(users, places, self.ages)
        following = sequences.before(users, places + 1, np.ones(1))
        return {
            "slit.gram": triangle((history.T @ history).toarray()),
            "slit.next": (history.T @ following).toarray(),
        }

    def solve(self, sums: Mapping[str, Matrix], size: int) -> Matrix:
        """See `LinearModel.solve`."""
        gram = symmetric(sums["slit.gram"], size) + self._ridge * np.eye(size)
        return np.linalg.solve(gram, sums["slit.next"]).astype(np.float64, copy=False)

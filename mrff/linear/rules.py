"""Item-to-item rules: what follows an item how often (Ludewig and Jannach, UMUAI 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.linear.base import Matrix
from mrff.linear.sequences import Sequences
from mrff.linear.slit import Slit


class Rules:
    """W_ij: the share of j in what followed i, by the decayed counts that `Slit` sums anyway."""

    name = "rules"
    ages = Slit.ages

    def shapes(self, size: int) -> Mapping[str, tuple[int, ...]]:
        """None of its own."""
        return {}

    def sums(self, sequences: Sequences) -> dict[str, Matrix]:
        """None of its own."""
        return {}

    def solve(self, sums: Mapping[str, Matrix], size: int) -> Matrix:
        """See `LinearModel.solve`."""
        followed = sums["slit.next"]
        weights: Matrix = followed / np.maximum(followed.sum(axis=1, keepdims=True), 1.0)
        return weights

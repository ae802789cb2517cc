"""What a closed-form linear model is: sums over users, and a matrix that the server solves for.

Sums over users add up exactly, so one round of them gives what a server with all the data would
get. The matrix W scores item j by the history x (recent items count more): score(j) = x W[:, j].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mrff.linear.sequences import Sequences

Matrix = NDArray[np.float64]


class LinearModel(Protocol):
    """One linear model."""

    name: str
    ages: NDArray[np.float64]  # (A,) weight of a history item by its age, the latest first

    def shapes(self, size: int) -> Mapping[str, tuple[int, ...]]:
        """Of the sums, for ``size`` items."""
        ...

    def sums(self, sequences: Sequences) -> dict[str, Matrix]:
        """Over these users."""
        ...

    def solve(self, sums: Mapping[str, Matrix], size: int) -> Matrix:
        """W (size, size)."""
        ...


def decay(factor: float, most: int) -> NDArray[np.float64]:
    """(most,) factor^0, factor^1, ..."""
    weights: NDArray[np.float64] = factor ** np.arange(most, dtype=np.float64)
    return weights


def triangle(matrix: Matrix) -> Matrix:
    """The upper triangle of a symmetric matrix, flat: half of what would travel."""
    values: Matrix = matrix[np.triu_indices(len(matrix))]
    return values


def symmetric(values: Matrix, size: int) -> Matrix:
    """The inverse of `triangle`."""
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = values
    return matrix + np.triu(matrix, 1).T


def triangle_size(size: int) -> int:
    """Numbers in `triangle`."""
    return size * (size + 1) // 2

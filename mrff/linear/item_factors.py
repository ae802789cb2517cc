"""Item vectors by sums over users: expectation-maximisation of a linear factor model.

A row's residual (its label less what others make of the item) is ``v_i . w_u + noise``, with a
taste w_u ~ N(0, I) of the user's own. Nodes say what their users' tastes are by the vectors that
came, and send sums of them for each item; the server solves for the vectors. Each step is exact, so
the result does not depend on how users are spread over nodes. (Tipping and Bishop, "Probabilistic
principal component analysis", JRSS B 1999, of rows that are met; users' means alone would be
alternating least squares, which fits noise where a user has few rows.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.linear.base import symmetric, triangle_size

Floats = NDArray[np.float64]
STEPS = 12  # of a run; more change nothing that a validation sees
MOST_USERS = 4096  # whose covariances lie in memory at once
SECOND, FIRST, SPREAD = "item_second_moments", "item_first_moments", "taste_moments"
BEGIN_SCALE = 0.1  # of vectors before the first step


def first_vectors(items: int, dim: int, seed: int) -> Floats:
    """(items + 1, d); row 0 is of no item."""
    vectors: Floats = np.random.default_rng(seed).normal(0.0, BEGIN_SCALE, (items + 1, dim))
    vectors[0] = 0.0
    return vectors


def shapes(items: int, dim: int) -> dict[str, tuple[int, ...]]:
    """Of the sums, for items 1, 2, ...."""
    packed = triangle_size(dim)
    return {SECOND: (items, packed), FIRST: (items, dim), SPREAD: (packed,)}


def moments(
    items: NDArray[np.int64],
    residuals: Floats,
    offsets: NDArray[np.int64],
    vectors: Floats,
    noise: float,
) -> dict[str, Floats]:
    """The sums over users whose rows (n,) lie between ``offsets`` (U + 1,); see `shapes`."""
    from scipy.sparse import csr_array  # only for this

    rows, dim = vectors.shape
    upper = np.triu_indices(dim)
    squares = _outer(vectors)[:, upper[0], upper[1]]  # (items + 1, packed)
    second, first = np.zeros((rows, squares.shape[1])), np.zeros((rows, dim))
    spread = np.zeros(squares.shape[1])
    for begin in range(0, len(offsets) - 1, MOST_USERS):
        bounds = offsets[begin : begin + MOST_USERS + 1]
        part, place = slice(bounds[0], bounds[-1]), bounds - bounds[0]
        shape = (len(bounds) - 1, rows)
        met = csr_array((np.ones(place[-1]), items[part], place), shape=shape)
        felt = csr_array((residuals[part], items[part], place), shape=shape)
        precision = np.eye(dim) + unpacked(met @ squares, dim) / noise  # (U, d, d)
        covariance = np.linalg.inv(precision)
        tastes = np.einsum("uij,uj->ui", covariance, felt @ vectors) / noise
        about = (covariance + _outer(tastes))[:, upper[0], upper[1]]
        second += met.T @ about
        first += felt.T @ tastes
        spread += about.sum(axis=0)
    return {SECOND: second[1:], FIRST: first[1:], SPREAD: spread}


def solved(sums: Mapping[str, NDArray[np.float64]], users: int, ridge: float) -> Floats:
    """(items + 1, d) by sums over ``users``, in coordinates in which tastes are N(0, I).

    Args:
        ridge: users that the prior, a vector of zeros, counts for.
    """
    dim = sums[FIRST].shape[1]
    second = unpacked(np.asarray(sums[SECOND], np.float64), dim) + ridge * np.eye(dim)
    vectors = np.linalg.solve(second, np.asarray(sums[FIRST], np.float64)[..., None])[..., 0]
    spread = symmetric(np.asarray(sums[SPREAD], np.float64), dim) / max(users, 1)
    return np.vstack([np.zeros((1, dim)), vectors @ np.linalg.cholesky(spread)])


def squares(values: NDArray[Any]) -> NDArray[Any]:
    """The diagonals of packed matrices (..., packed)."""
    dim = int(np.sqrt(2 * values.shape[-1]))  # of d (d + 1) / 2
    rows, columns = np.triu_indices(dim)
    return np.asarray(values[..., rows == columns])


def unpacked(values: Floats, dim: int) -> Floats:
    """(n, packed) -> (n, d, d), symmetric."""
    rows, columns = np.triu_indices(dim)
    matrices = np.zeros((len(values), dim, dim))
    matrices[:, rows, columns] = values
    matrices[:, columns, rows] = values
    return matrices


def _outer(vectors: Floats) -> Floats:
    return np.einsum("ni,nj->nij", vectors, vectors)

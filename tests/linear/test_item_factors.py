"""Item vectors by sums: by hand, over any split of users, and on planted tastes."""

from __future__ import annotations

import numpy as np
import pytest

from mrff.linear.item_factors import (
    FIRST,
    SECOND,
    SPREAD,
    first_vectors,
    moments,
    shapes,
    solved,
    squares,
)


def planted(users: int = 600, items: int = 40, dim: int = 2) -> tuple[np.ndarray, ...]:
    """Items, residuals and offsets of users with tastes N(0, I), and the true vectors."""
    random = np.random.default_rng(0)
    vectors = random.normal(0.0, 0.5, (items + 1, dim))
    vectors[0] = 0.0
    sizes = random.integers(5, 30, users)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    met = np.concatenate([random.choice(items, size, replace=False) + 1 for size in sizes])
    tastes = np.repeat(random.normal(size=(users, dim)), sizes, axis=0)
    felt = (vectors[met] * tastes).sum(axis=1) + random.normal(0.0, 0.3, len(met))
    return met, felt, offsets, vectors


def test_one_user_by_hand() -> None:
    """Two items with vectors 1 and 2, residuals 0.5 and -0.5, noise 0.5.

    Precision 1 + (1 + 4) / 0.5 = 11, taste ((0.5 - 1) / 0.5) / 11 = -1 / 11.
    """
    sums = moments(
        np.array([1, 2]), np.array([0.5, -0.5]), np.array([0, 2]),
        np.array([[0.0], [1.0], [2.0]]), 0.5,
    )  # fmt: skip
    about = 1 / 11 + 1 / 121
    assert sums[SECOND] == pytest.approx(np.array([[about], [about]]))
    assert sums[FIRST] == pytest.approx(np.array([[-0.5 / 11], [0.5 / 11]]))
    assert sums[SPREAD] == pytest.approx(np.array([about]))
    scale = np.sqrt(about)
    expected = np.array([[0.0], [-0.5 / 11], [0.5 / 11]]) / (about + 3.0) * scale
    assert solved(sums, 1, 3.0) == pytest.approx(expected)


def test_sums_add_up_over_any_split_of_users() -> None:
    met, felt, offsets, _ = planted(users=50)
    vectors = first_vectors(40, 3, seed=1)
    whole = moments(met, felt, offsets, vectors, 0.2)
    assert {name: array.shape for name, array in whole.items()} == shapes(40, 3)
    cut = offsets[17]
    parts = (
        moments(met[:cut], felt[:cut], offsets[:18], vectors, 0.2),
        moments(met[cut:], felt[cut:], offsets[17:] - cut, vectors, 0.2),
    )
    for name, array in whole.items():
        assert parts[0][name] + parts[1][name] == pytest.approx(array, abs=1e-9)


def test_planted_tastes_are_found() -> None:
    """Vectors are known up to a rotation: their products tell."""
    met, felt, offsets, truth = planted()
    vectors = first_vectors(40, 2, seed=3)
    for _ in range(12):
        vectors = solved(moments(met, felt, offsets, vectors, 0.09), 600, 1.0)
    found, wanted = (v[1:] @ v[1:].T for v in (vectors, truth))
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    assert found.trace() == pytest.approx(wanted.trace(), rel=0.1)


def test_an_item_that_nobody_met_has_no_vector() -> None:
    sums = moments(np.array([1]), np.array([0.4]), np.array([0, 1]), first_vectors(3, 2, 0), 0.2)
    assert not solved(sums, 1, 5.0)[[0, 2, 3]].any()


def test_squares_are_on_the_diagonal() -> None:
    """Of 3 x 3 matrices: places 0, 3 and 5 of six."""
    assert squares(np.arange(6.0)).tolist() == [0.0, 3.0, 5.0]
    assert squares(np.arange(12.0).reshape(2, 6)).tolist() == [[0.0, 3.0, 5.0], [6.0, 9.0, 11.0]]
    assert squares(np.array([7.0])).tolist() == [7.0]

"""Vectors of whole numbers: never longer than C, themselves on average, whatever a user sends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mrff.config import ConfigError
from mrff.privacy.mechanisms.grid import Grid
from mrff.privacy.noise import NoiseSource

ANY = st.floats(width=32)  # infinities and NaN included


def test_what_is_kept_worked_by_hand() -> None:
    """beta 2^-30: c^2 + 100/4 + 6.449 (c + 5) = 100^2 has the solution c = 96.54."""
    kept = Grid(100, 100).kept
    assert kept == pytest.approx(0.9654, abs=1e-4)
    slack = (2 * 30 * np.log(2)) ** 0.5
    c = 100 * kept
    assert c**2 + 25 + slack * (c + 5) == pytest.approx(100**2)
    assert Grid(4096, 50_000).kept > 0.998  # the default costs a thousandth of C


def test_a_grid_that_is_too_coarse_for_the_numbers_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"grid-steps=100 is too few for vectors of 50,000 num"):
        _ = Grid(100, 50_000).kept
    least = int(str(_refusal(Grid(100, 50_000))).split("use ")[1].split(" or")[0])
    assert Grid(least, 50_000).kept > 0.0


def _refusal(grid: Grid) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        _ = grid.kept
    assert "\n" not in str(caught.value)
    return caught.value


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 30))
def test_no_row_is_longer_than_c_whatever_comes(data: st.DataObject, steps: int, size: int) -> None:
    """Also rows that were never clipped, as a bug or a node's own code may give."""
    vectors = data.draw(arrays(np.float32, (3, size), elements=ANY))
    with np.errstate(all="ignore"):
        whole = Grid(steps, size).rounded(vectors, NoiseSource()).astype(np.float64)
    assert np.isfinite(whole).all()
    assert (whole == np.rint(whole)).all()
    squares = np.square(whole).sum(axis=1)
    assert (squares <= steps**2).all()
    assert (np.abs(whole).sum(axis=1) <= squares).all()  # L1 is at most the square of L2


def test_clipped_vectors_are_themselves_on_average_and_hardly_ever_too_long() -> None:
    grid, random = Grid(60, 400), np.random.default_rng(1)
    vector = random.normal(size=400)
    vector *= 60 * grid.kept / np.linalg.norm(vector)
    rows = np.tile(vector.astype(np.float32), (4000, 1))
    whole = grid.rounded(rows, NoiseSource())
    assert np.linalg.norm(whole, axis=1).max() <= 60.0
    assert np.linalg.norm(whole, axis=1).mean() > np.linalg.norm(vector)  # rounding makes longer
    error = np.abs(whole.mean(axis=0, dtype=float) - vector)
    assert error.max() < 6 * 0.5 / 4000**0.5
    towards_zero = (np.abs(whole) <= np.abs(rows)).all(axis=1)
    assert not towards_zero.any()  # what is done to the few that are too long


def test_a_vector_that_rounding_makes_too_long_is_rounded_towards_zero() -> None:
    """A norm of 9.9 and 300 numbers: at random they would nearly always be beyond 10."""
    vector = np.full((50, 300), 9.9 / 300**0.5, np.float32)
    assert not Grid(10, 300).rounded(vector, NoiseSource()).any()

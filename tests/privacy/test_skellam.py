"""Skellam noise: its exact distribution, its moments, its sums, the bits that decide a draw."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ive
from scipy.stats import chisquare

from mrff.privacy.noise import NoiseSource
from mrff.privacy.skellam import LARGEST_VARIANCE, skellam_table

LEVEL = 1e-6  # a fresh secret stream fails a test of this level once in a million runs


def tails(variance: int) -> list[int]:
    """P(at least k) for k = 1, 2, ... in units of 2^-127."""
    table = skellam_table(variance)
    both = zip(table.high.tolist(), table.low.tolist(), strict=True)
    return [(high << 64) | low for high, low in both][::-1]


def fit(noise: np.ndarray, variance: int, bins: int = 60) -> float:
    """The p-value of a chi-square test against exp(-v) I_k(v)."""
    reach = int(4.5 * variance**0.5) + 1
    numbers = np.arange(-reach, reach + 1)
    cut = np.array_split(numbers, min(bins, len(numbers)))
    probabilities = np.array([ive(np.abs(part), variance).sum() for part in cut])
    found = np.array([((noise >= part[0]) & (noise <= part[-1])).sum() for part in cut])
    rest, left = 1.0 - probabilities.sum(), len(noise) - found.sum()
    expected = np.append(probabilities, rest) * len(noise)
    return float(chisquare(np.append(found, left), expected * len(noise) / expected.sum()).pvalue)


def test_two_of_mean_one_half_worked_by_hand() -> None:
    """Variance 1: exp(-1) I_0(1) = 0.4657596, exp(-1) I_1(1) = 0.2079104, I_2: 0.0499388."""
    at_least = [tail / 2.0**127 for tail in tails(1)]
    assert 1.0 - at_least[0] == pytest.approx(0.4657596, abs=1e-7)
    assert (at_least[0] - at_least[1]) / 2 == pytest.approx(0.2079104, abs=1e-7)
    assert (at_least[1] - at_least[2]) / 2 == pytest.approx(0.0499388, abs=1e-7)


@pytest.mark.parametrize("variance", [1, 7, 1000, 10**6])
def test_all_probabilities_are_those_of_bessels_function(variance: int) -> None:
    found = tails(variance)
    assert found == sorted(found, reverse=True)
    reach = min(len(found) - 1, 6 * int(variance**0.5) + 3)
    both = np.array([(found[k - 1] - found[k]) / 2.0**128 for k in range(1, reach)])
    exact = ive(np.arange(1, reach), variance)
    np.testing.assert_allclose(both, exact, rtol=1e-9)  # that of the reference
    assert found[-1] < 2**10  # the table ends where nothing is left


def test_the_variance_is_exact_to_the_last_digit() -> None:
    """The sum of k^2 P(k), in whole numbers, against v: no float is in between."""
    for variance in (1, 12, 5000):
        found = [*tails(variance), 0]
        second = sum((2 * k - 1) * tail for k, tail in enumerate(found, start=1))
        assert abs(second - (variance << 127)) < 2**127 // 10**30


@pytest.mark.parametrize("variance", [1, 40, 10**5, 4 * 10**8])
def test_draws_are_of_this_distribution(variance: int) -> None:
    noise = NoiseSource().skellam((400, 501), variance)
    assert noise.shape == (400, 501)
    assert noise.dtype == np.int64
    flat = noise.ravel()
    assert fit(flat, variance) > LEVEL
    spread = variance**0.5 / len(flat) ** 0.5
    assert abs(flat.mean()) < 6 * spread
    kurtosis = 3.0 + 1.0 / variance  # of the distribution: the variance is as sure as that
    error = variance * ((kurtosis - 1.0) / len(flat)) ** 0.5
    assert abs(flat.var() - variance) < 6 * error


def test_shares_add_up_to_one_draw_of_the_sum_of_their_variances() -> None:
    total = sum(NoiseSource().skellam((200_000,), variance) for variance in (3, 4, 5))
    assert fit(np.asarray(total), 12) > LEVEL
    assert fit(np.asarray(total), 13) < LEVEL  # and the test would see another one


class Dictated(NoiseSource):
    """Hands out these words."""

    def __init__(self, *words: int) -> None:
        super().__init__(0)
        self._words = list(words)

    def words(self, count: int) -> np.ndarray:
        taken, self._words = self._words[:count], self._words[count:]
        return np.array(taken, np.uint64)


def test_a_draw_on_the_edge_is_decided_by_64_more_bits() -> None:
    """The size is at least 2 for all bits below P(at least 2), which lies between two words."""
    second = tails(1)[1]
    high, low = second >> 64, second & (2**64 - 1)

    def draw(*words: int) -> int:
        return int(Dictated(*words).skellam((1,), 1)[0])

    assert draw(2 * (high - 1)) == 2
    assert draw(2 * (high + 1)) == 1
    assert draw(2 * high, low - 1) == 2
    assert draw(2 * high, low) == 1
    assert draw(2 * high + 1, low) == -1  # the last bit is the sign


def test_values_are_rounded_to_themselves_on_average() -> None:
    values = np.tile(np.array([0.25, -1.3, 7.0, 1e-3, 0.0], np.float32), 40_001)
    rounded = NoiseSource().rounded(values).reshape(-1, 5)
    assert set(rounded[:, 0]) == {0.0, 1.0}
    assert set(rounded[:, 1]) == {-2.0, -1.0}
    assert set(rounded[:, 2]) == {7.0}
    assert set(rounded[:, 4]) == {0.0}
    np.testing.assert_allclose(rounded.mean(axis=0, dtype=float), values[:5], atol=6 * 0.5 / 200)


@pytest.mark.parametrize("variance", [0, LARGEST_VARIANCE + 1])
def test_variances_without_a_table_are_refused(variance: int) -> None:
    with pytest.raises(ValueError, match=r"must have a variance of 1 to .*, got"):
        NoiseSource().skellam((1,), variance)

"""The noise is really there: its distribution, its independence, its key."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, laplace

from mrff.privacy.noise import NoiseSource

# A fresh secret stream fails a test of this level once in a million runs.
LEVEL = 1e-6


def test_gaussian_noise_of_a_fresh_source_has_the_deviation_asked_for() -> None:
    noise = NoiseSource().gaussian((200, 501), 2.5)
    assert noise.shape == (200, 501)
    assert kstest(noise.ravel() / 2.5, "norm").pvalue > LEVEL
    halves = noise.ravel()[: 2 * (noise.size // 2)].reshape(2, -1)
    assert abs(np.corrcoef(halves)[0, 1]) < 6 / np.sqrt(halves.shape[1])


def test_an_odd_count_and_several_blocks() -> None:
    assert NoiseSource().gaussian((3,), 1.0).shape == (3,)
    many = NoiseSource().gaussian(((1 << 20) + 3,), 1.0)
    assert abs(many.std() - 1.0) < 0.01
    assert (many != 0.0).all()


@pytest.mark.parametrize("count", [1, 7])
def test_laplace_sums(count: int) -> None:
    sums = NoiseSource().laplace_sums((40_000,), 3.0, count)
    assert sums.std() == pytest.approx(3.0 * np.sqrt(2.0 * count), rel=0.06)
    if count == 1:
        assert kstest(sums, laplace(scale=3.0).cdf).pvalue > LEVEL


class Stuck(NoiseSource):
    """A source whose first ``count`` uniform numbers are the smallest there are."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self._left = count

    def uniform(self, count: int) -> np.ndarray:
        found = super().uniform(count)
        found[: self._left] = 2.0**-54
        self._left = max(self._left - count, 0)
        return found


def test_laplace_and_gaussian_noise_have_no_end() -> None:
    """-log of a 53 bit number is at most 37.4: noise beyond that would say who was there."""
    last = 53.0 * np.log(2.0)
    (once,) = Stuck(1).exponential(1)
    (twice,) = Stuck(2).exponential(1)
    assert last < once < 2.0 * last < twice
    (far,) = Stuck(3).laplace_sums((1,), 2.0, 1)
    assert abs(far) > 2.0 * 100.0
    assert np.abs(Stuck(4).gaussian((2,), 1.0)).max() > np.sqrt(2.0 * 4.0 * last)
    exponential = NoiseSource().exponential(100_000)
    assert kstest(exponential, "expon").pvalue > LEVEL


def test_coins_are_independent_draws_at_their_rate() -> None:
    coins = NoiseSource().coins(100_000, 0.2)
    assert abs(coins.mean() - 0.2) < 6 * np.sqrt(0.16 / 100_000)
    assert not NoiseSource().coins(1000, 1e-12).any()
    assert NoiseSource().coins(1000, 1.0).all()


def test_fresh_sources_never_repeat_and_seeded_ones_always_do() -> None:
    fresh = [NoiseSource() for _ in range(3)]
    assert all(source.is_secret for source in fresh)
    draws = [source.gaussian((8,), 1.0).tolist() for source in fresh]
    assert len({tuple(draw) for draw in draws}) == 3

    assert not NoiseSource(7).is_secret
    again = [NoiseSource(7, "round 1").gaussian((8,), 1.0) for _ in range(2)]
    assert (again[0] == again[1]).all()
    assert (NoiseSource(7, "round 2").gaussian((8,), 1.0) != again[0]).all()
    assert (NoiseSource(8, "round 1").gaussian((8,), 1.0) != again[0]).all()


def test_a_generator_that_others_seeded_changes_nothing() -> None:
    import torch

    drawn = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        drawn.append(NoiseSource().gaussian((8,), 1.0))
    assert (drawn[0] != drawn[1]).all()

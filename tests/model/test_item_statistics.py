"""Rates out of noisy sums: by hand, where there is no noise, and where there is nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrff_model.item_statistics import ItemStatistics


def statistics(
    rates: list[tuple[float, float]], noise: tuple[float, float] | None, prior: float = 0.5
) -> ItemStatistics:
    found = ItemStatistics(len(rates), 0, noised=noise is not None)
    with torch.no_grad():
        found.rates.copy_(torch.tensor(rates))
        found.prior[0] = prior
        if found.noise is not None:
            found.noise.copy_(torch.tensor(noise))
    return found


def rest(found: ItemStatistics, item: int, label: float, counted: float) -> tuple[float, float]:
    rate, count = found.rest(*map(torch.tensor, (item, label, counted)))
    return float(rate), float(count)


def test_a_noisy_rate_by_hand() -> None:
    """Met 10.5 and liked 8.5, of which 0.5 and 0.5 are the row's own; rows weigh 0.5, noise is 1.

    3 above the prior; its weight times 10 is 5 (0.5 x 10 + 4 x 1) = 45: 0.5 + 3 x 10 / (100 + 45).
    """
    rate, count = rest(statistics([(0, 0), (10.5, 8.5)], (0.5, 1.0)), 1, 1.0, 0.5)
    assert rate == pytest.approx(0.5 + 30 / 145)
    assert count == pytest.approx(5 * 100 / 45)


def test_the_noise_of_a_kind_is_that_of_its_items() -> None:
    """The row above as the sum of four items with a quarter of the noise, and twenty rows' prior.

    Its weight times 10 is 20 (0.5 x 10 + 4 x 4 x 0.25) = 180: 0.5 + 3 x 10 / (100 + 180).
    """
    found = statistics([(0, 0)], (0.5, 0.25))
    rate, _ = found.rate_of(torch.tensor(10.0), torch.tensor(8.0), 20.0, 4.0)
    assert float(rate) == pytest.approx(0.5 + 30 / 280)


@given(st.integers(0, 200), st.floats(0, 1), st.floats(0.1, 0.9), st.floats(0.01, 1))
def test_without_noise_weights_say_what_numbers_say(
    met: int, share: float, prior: float, weight: float
) -> None:
    liked = round(met * share)
    plain = statistics([(0, 0), (met, liked)], None, prior)
    weighted = statistics([(0, 0), (weight * met, weight * liked)], (weight, 1e-9), prior)
    counted = 1.0 if liked else 0.0  # a row that is there
    expected = rest(plain, 1, 1.0, counted)
    assert rest(weighted, 1, 1.0, weight * counted) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(st.floats(-50, 0.2), st.floats(-50, 50))
def test_an_item_that_noise_alone_speaks_of_says_nothing(met: float, liked: float) -> None:
    rate, count = rest(statistics([(0, 0), (met, liked)], (0.1, 4.0)), 1, 0.0, 0.0)
    assert 0.0 <= rate <= 1.0
    if met <= 0.0:
        assert (rate, count) == (0.5, 0.0)
    assert count < 0.02


@given(st.floats(0.01, 10), st.floats(1.01, 20))
def test_the_prior_counts_for_more_with_more_noise(variance: float, factor: float) -> None:
    less, more = (
        rest(statistics([(0, 0), (10, 8)], (0.1, v)), 1, 0.0, 0.0)
        for v in (variance, factor * variance)
    )
    assert 0.5 < more[0] < less[0]
    assert more[1] < less[1]

"""Epsilon: against a second library, in closed form, composed, monotone, refused when absurd."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.special import ive
from scipy.stats import norm

from mrff.privacy.accounting import (
    ORDERS,
    Release,
    _rdp,
    check_delta,
    epsilon_of,
    merged,
    pure_epsilon,
)

DELTA = 1e-5


def google_epsilon(releases: list[Release], delta: float) -> float:
    """The same by privacy loss distributions, of both directions of add-or-remove."""
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    for release in releases:
        gaussian = dp_accounting.GaussianDpEvent(release.noise_multiplier)
        sampled = dp_accounting.PoissonSampledDpEvent(release.sampling_rate, gaussian)
        accountant.compose(sampled, release.steps)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(
    ("rate", "noise", "steps"),
    [
        (1.0, 4.0, 1),
        (1.0, 6.0, 50),
        (0.5, 2.0, 30),
        (0.2, 1.1, 40),
        (0.2, 0.8, 200),
        (0.05, 0.7, 100),
        (0.01, 1.0, 1000),
        (0.001, 0.6, 500),
    ],
)
def test_within_one_percent_of_dp_accounting(rate: float, noise: float, steps: int) -> None:
    release = Release(noise, rate, steps)
    ours, theirs = epsilon_of([release], DELTA), google_epsilon([release], DELTA)
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours >= theirs * 0.999  # an upper bound, up to the other library's own grid


def test_unlike_releases_compose_as_dp_accounting_says() -> None:
    history = [Release(1.2, 0.2, 30), Release(0.9, 0.1, 50), Release(4.0, 1.0, 2)]
    assert epsilon_of(history, DELTA) == pytest.approx(google_epsilon(history, DELTA), rel=0.01)


def test_one_gaussian_release_has_the_closed_form() -> None:
    """Balle and Wang 2018, theorem 8: delta of a Gaussian of sensitivity 1 at a given epsilon."""
    noise = 3.0
    epsilon = epsilon_of([Release(noise)], DELTA)
    delta = norm.cdf(0.5 / noise - epsilon * noise) - math.exp(epsilon) * norm.cdf(
        -0.5 / noise - epsilon * noise
    )
    assert delta == pytest.approx(DELTA, rel=0.1)  # delta moves fast with epsilon
    assert delta <= DELTA


def test_rdp_bounds_prv_from_above() -> None:
    for release in (Release(1.0, 0.1, 100), Release(5.0, 1.0, 10), Release(0.7, 0.02, 50)):
        assert epsilon_of([release], DELTA, "rdp") >= epsilon_of([release], DELTA, "prv")


def test_cost_grows_with_steps_rate_and_falls_with_noise_and_delta() -> None:
    def cost(noise: float = 1.3, rate: float = 0.2, steps: int = 20, delta: float = DELTA) -> float:
        return epsilon_of([Release(noise, rate, steps)], delta)

    for values in (
        [cost(steps=n) for n in (1, 2, 5, 10, 50, 51, 200)],
        [cost(rate=q) for q in (0.01, 0.1, 0.2, 0.5, 0.9, 1.0)],
        [cost(noise=z) for z in (8.0, 4.0, 2.0, 1.0, 0.6)],
        [cost(delta=d) for d in (1e-3, 1e-5, 1e-7)],
    ):
        assert all(low < high for low, high in pairwise(values)), values


def test_nothing_costs_nothing_and_the_order_of_releases_does_not_matter() -> None:
    assert epsilon_of([], DELTA) == 0.0
    one, other = Release(1.0, 0.1, 3), Release(2.0, 1.0, 4)
    assert merged([one, other, one]) == merged([other, Release(1.0, 0.1, 6)])
    assert epsilon_of([one, other], DELTA) == epsilon_of([other, one], DELTA)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 50.0), st.integers(1, 400))
def test_laplace_is_never_above_its_pure_sum(noise: float, steps: int) -> None:
    release = Release(noise, steps=steps, mechanism="laplace")
    assert pure_epsilon([release]) == pytest.approx(steps / noise)
    assert epsilon_of([release], DELTA) <= pure_epsilon([release]) + 1e-9


def test_many_laplace_releases_cost_less_than_their_sum_and_agree_with_dp_accounting() -> None:
    release = Release(20.0, steps=400, mechanism="laplace")
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_accounting.LaplaceDpEvent(20.0), 400)
    exact = accountant.get_epsilon(DELTA)
    ours = epsilon_of([release], DELTA)
    assert pure_epsilon([release]) == pytest.approx(20.0)
    assert exact <= ours <= 1.15 * exact  # by Renyi divergence: an upper bound, not tight


def test_gaussian_and_laplace_add_up() -> None:
    both = epsilon_of([Release(4.0), Release(10.0, mechanism="laplace")], DELTA)
    assert both >= epsilon_of([Release(4.0)], DELTA)
    assert both <= epsilon_of([Release(4.0)], DELTA) + 0.1 + 1e-9
    assert pure_epsilon([Release(4.0), Release(10.0, mechanism="laplace")]) == math.inf


def exact_divergence(order: int, shift: int, variance: float) -> float:
    """Of a Skellam number and the same moved by ``shift``, summed up."""
    reach = int(30 * variance**0.5) + 60
    numbers = np.arange(-reach, reach + 1)
    with np.errstate(divide="ignore"):
        here, there = (np.log(ive(np.abs(numbers - moved), variance)) for moved in (0, shift))
    counts = np.isfinite(here) & np.isfinite(there)
    terms = order * here[counts] - (order - 1) * there[counts]
    return float(np.logaddexp.reduce(terms)) / (order - 1)


def skellam_curve(noise: float, grid_steps: int) -> dict[float, float]:
    curve = _rdp(Release(noise, mechanism="skellam", grid_steps=grid_steps))
    return dict(zip(ORDERS, curve.tolist(), strict=True))


def test_a_skellam_release_worked_by_hand() -> None:
    """z = 2, S = 3, order 2: 2/8 + min((2*2 + 5) / (4 * 16 * 9), 1.5/4) = 0.25 + 0.015625."""
    assert skellam_curve(2.0, 3)[2.0] == pytest.approx(0.265625)
    assert skellam_curve(0.5, 1)[2.0] == pytest.approx(4.0 + 6.0)  # here the other term is less
    curve = skellam_curve(2.0, 3)
    assert curve[1.5] == curve[2.0]
    assert curve[2.1] == curve[3.0]


@pytest.mark.parametrize(("noise", "steps"), [(0.5, 3), (1.0, 1), (1.0, 10), (4.0, 2), (2.0, 40)])
def test_the_skellam_curve_is_above_the_exact_divergence_and_close_on_fine_grids(
    noise: float, steps: int
) -> None:
    """One number that moves by S, and S^2 numbers that move by 1: both have L2 norm S."""
    curve, variance = skellam_curve(noise, steps), (noise * steps) ** 2
    for order in (2, 3, 8, 32):
        one = exact_divergence(order, steps, variance)
        many = steps**2 * exact_divergence(order, 1, variance)
        assert max(one, many) <= curve[float(order)]
        if noise * steps >= 16.0:
            assert curve[float(order)] <= 1.02 * max(one, many)


def test_fine_grids_cost_what_gaussian_noise_costs() -> None:
    for noise, steps in ((1.0, 1), (4.94, 60), (20.0, 500)):
        skellam = Release(noise, steps=steps, mechanism="skellam", grid_steps=4096)
        gaussian = epsilon_of([Release(noise, steps=steps)], DELTA, "rdp")
        assert gaussian <= epsilon_of([skellam], DELTA, "rdp") <= 1.02 * gaussian
        coarse = Release(noise, steps=steps, mechanism="skellam", grid_steps=4)
        assert epsilon_of([coarse], DELTA, "rdp") > epsilon_of([skellam], DELTA, "rdp")
        accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
        accountant.compose(dp_accounting.GaussianDpEvent(noise), steps)
        assert accountant.get_epsilon(DELTA) <= epsilon_of([skellam], DELTA, "rdp")


def test_a_history_with_skellam_releases_is_added_up_in_renyi_divergence() -> None:
    """Whatever the run asks for: another run on the same data may have had other noise."""
    skellam = Release(6.0, steps=5, mechanism="skellam", grid_steps=1000)
    history = [skellam, Release(1.2, 0.2, 30), Release(30.0, mechanism="laplace")]
    both = epsilon_of(history, DELTA)
    assert both == epsilon_of(history, DELTA, "rdp")
    assert both > epsilon_of(history[1:], DELTA, "rdp")
    assert pure_epsilon(history) == math.inf
    finer = replace(skellam, grid_steps=2000)
    assert len(merged([skellam, finer, skellam])) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_multiplier": 0.0}, "noise-multiplier must be greater than 0, got 0.0"),
        ({"noise_multiplier": -1.0}, "noise-multiplier must be greater than 0, got -1.0"),
        ({"noise_multiplier": math.nan}, "noise-multiplier must be greater than 0, got nan"),
        ({"noise_multiplier": 1.0, "sampling_rate": 0.0}, "sampling-rate must be greater than 0"),
        ({"noise_multiplier": 1.0, "sampling_rate": 1.5}, "at most 1, got 1.5"),
        ({"noise_multiplier": 1.0, "steps": -1}, "steps must be at least 0, got -1"),
        ({"noise_multiplier": 1.0, "mechanism": "uniform"}, "laplace or skellam, got 'uniform'"),
        (
            {"noise_multiplier": 1.0, "mechanism": "laplace", "sampling_rate": 0.5},
            "no amplification by sampling is claimed",
        ),
        ({"noise_multiplier": 1.0, "mechanism": "skellam"}, "at least 1 for skellam noise"),
        ({"noise_multiplier": 1.0, "grid_steps": 9}, "0 for any other, got 9 for gaussian"),
    ],
)
def test_impossible_releases(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Release(**arguments)  # type: ignore[arg-type]


def exact_epsilon(noise: float, delta: float) -> float:
    """Of one Gaussian release (Balle and Wang 2018, theorem 8), in logarithms."""

    def excess(epsilon: float) -> float:
        above = norm.logcdf(0.5 / noise - epsilon * noise)
        below = epsilon + norm.logcdf(-0.5 / noise - epsilon * noise)
        return float(above + math.log1p(-math.exp(below - above)) - math.log(delta))

    return float(brentq(excess, 1e-6, 100.0))


@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10, 1e-11, 1e-13])
@pytest.mark.parametrize("steps", [1, 100, 10_000])
def test_no_epsilon_is_below_the_exact_one_however_small_delta_is(steps: int, delta: float) -> None:
    """Below 1e-10, or 1e-14 a step, the PRV accountant's transforms are not exact enough."""
    release = Release(3.0 * math.sqrt(steps), steps=steps)  # together one release of noise 3
    exact = exact_epsilon(3.0, delta)
    ours = epsilon_of([release], delta)
    assert exact <= ours <= 1.1 * exact
    if delta >= max(1e-10, 1e-14 * steps):
        assert ours < epsilon_of([release], delta, "rdp")  # the tight one is still used


def test_the_prv_accountant_alone_would_claim_too_little() -> None:
    """Why there is a limit; a better accountant has none. By processor it says 2.28 or 2.344."""
    accountant = PRVAccountant()
    accountant.history = [(300.0, 1.0, 10_000)]
    claimed = accountant.get_epsilon(1e-13, eps_error=0.01)
    assert exact_epsilon(3.0, 1e-13) == pytest.approx(2.362, abs=0.001)
    assert claimed + 0.01 < 2.362  # further below than its own error


def test_predictable_noise_hides_nothing() -> None:
    known = Release(4.0, predictable=True)
    assert epsilon_of([known], DELTA) == math.inf
    assert epsilon_of([Release(4.0), replace(known, steps=0)], DELTA) < math.inf
    laplace = Release(4.0, mechanism="laplace", predictable=True)
    assert epsilon_of([laplace], DELTA) == pure_epsilon([laplace]) == math.inf


def test_delta_must_say_something() -> None:
    check_delta(1e-5, 6040)
    with pytest.raises(ValueError, match=r"must be less than 1/n = 0.001 for n = 1,000"):
        check_delta(1e-3, 1000)
    for delta in (0.0, 1.0, -1e-5):
        with pytest.raises(ValueError, match="greater than 0 and less than 1"):
            epsilon_of([Release(1.0)], delta)

"""From guesses to a bound: numbers one can check, mechanisms whose epsilon is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from mrff.experiments.audits.bounds import bound_of_scores, epsilon_lower_bound, p_value


def test_all_guesses_right_refute_what_would_rarely_do_so() -> None:
    """Without delta: (e^epsilon / (1 + e^epsilon))^100 = 0.05."""
    bound = epsilon_lower_bound(100, 100, 100, delta=0.0, confidence=0.95)
    chance = 0.05 ** (1 / 100)
    assert bound == pytest.approx(math.log(chance / (1 - chance)), abs=1e-3)


def test_a_delta_weakens_the_bound_and_half_right_refutes_nothing() -> None:
    without = epsilon_lower_bound(1000, 200, 190, delta=0.0, confidence=0.95)
    with_delta = epsilon_lower_bound(1000, 200, 190, delta=1e-4, confidence=0.95)
    assert 0.0 < with_delta < without
    assert epsilon_lower_bound(1000, 200, 100, delta=0.0, confidence=0.95) == 0.0
    assert epsilon_lower_bound(1000, 200, 0, delta=0.0, confidence=0.95) == 0.0


def test_the_p_value_falls_with_right_guesses_and_grows_with_epsilon() -> None:
    values = [p_value(200, 100, right, 1.0, 1e-5) for right in range(60, 101, 5)]
    assert all(high >= low for high, low in pairwise(values))
    assert p_value(200, 100, 90, 2.0, 1e-5) > p_value(200, 100, 90, 0.5, 1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomised_response_is_never_overestimated_and_nearly_reached(epsilon: float) -> None:
    """Each coin is told truthfully with e^epsilon / (1 + e^epsilon): exactly epsilon-private."""
    random = np.random.default_rng(int(10 * epsilon))
    bounds = []
    for _ in range(40):
        included = random.random(2000) < 0.5
        honest = random.random(2000) < math.exp(epsilon) / (1 + math.exp(epsilon))
        scores = np.where(honest, included, ~included).astype(float)
        bounds.append(bound_of_scores(scores, included, delta=0.0, confidence=0.95).epsilon)
    assert sum(bound > epsilon for bound in bounds) <= 8  # 2 expected of 40
    assert np.median(bounds) > 0.6 * epsilon


def test_gaussian_noise_is_not_refuted_and_its_absence_is() -> None:
    random = np.random.default_rng(1)
    included = random.random(1000) < 0.5
    noise = random.normal(0.0, 4.0, 1000)  # epsilon 1.0 at delta 1e-5
    private = bound_of_scores(included + noise, included, delta=1e-5, confidence=0.95)
    assert private.epsilon < 1.0
    exact = bound_of_scores(included.astype(float), included, delta=1e-5, confidence=0.95)
    assert exact.epsilon > 4.0
    assert exact.right == exact.guesses > 0


def test_equal_scores_tell_nothing_whatever_the_order_of_the_coins() -> None:
    included = np.arange(400) < 200
    assert bound_of_scores(np.zeros(400), included, delta=0.0, confidence=0.95).epsilon < 0.2


def test_impossible_counts() -> None:
    with pytest.raises(ValueError, match="at least 10 canaries, got 3"):
        bound_of_scores(np.zeros(3), np.zeros(3, bool), delta=0.0, confidence=0.95)
    with pytest.raises(ValueError, match="got 5, 4, 10"):
        epsilon_lower_bound(10, 4, 5, delta=0.0, confidence=0.95)

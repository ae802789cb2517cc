"""From guesses about canaries to a lower bound on epsilon, after one training run.

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023 (arXiv
2305.08846). Each of m canaries is in the training data or not by a fair coin. Somebody who sees the
output guesses the coins of the r canaries they are surest of. If training is (epsilon, delta)
differentially private, the number of right guesses is (nearly) bounded by a binomial variable of r
trials with success e^epsilon / (1 + e^epsilon) (theorem 5.2): more right guesses refute epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

_MOST_EPSILON = 64.0


@dataclass(frozen=True)
class Guesses:
    """The best of several numbers of guesses, and what they refute."""

    epsilon: float  # lower bound, with the confidence asked for
    guesses: int
    right: int


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Chance of at least that many ``right`` guesses if training were (epsilon, delta) private.

    Theorem 5.2 and the program of appendix D of the paper.
    """
    if right <= 0:
        return 1.0
    success = 1.0 / (1.0 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, success))
    steps = np.arange(1, right + 1)
    heads = np.cumsum(binom.pmf(right - steps, guesses, success))
    alpha = float((heads / steps).max())
    return min(beta + alpha * 2.0 * canaries * delta, 1.0)


def epsilon_lower_bound(
    canaries: int, guesses: int, right: int, *, delta: float, confidence: float
) -> float:
    """The largest epsilon that the guesses refute; 0 if they refute none."""
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(
            f"there must be 0 <= right <= guesses <= canaries, got {right}, {guesses}, {canaries}"
        )
    level = 1.0 - confidence
    low, high = 0.0, _MOST_EPSILON
    if p_value(canaries, guesses, right, low, delta) > level:
        return 0.0
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        if p_value(canaries, guesses, right, middle, delta) <= level:
            low = middle
        else:
            high = middle
    return low


def bound_of_scores(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float,
) -> Guesses:
    """The bound from scores (m,) that should be higher for the canaries that were ``included``.

    The surest canaries are guessed: as many of the highest as of the lowest. Several numbers of
    guesses are tried, and the level is divided by how many (Bonferroni), so that the best of them
    may be taken. Equal scores are put in an order that does not know the coins.
    """
    m = len(scores)
    if m < 10:
        raise ValueError(f"an audit needs at least 10 canaries, got {m}")
    order = np.lexsort((np.random.default_rng(0).random(m), scores))
    halves = sorted({max(1, int(m * share / 2)) for share in (0.1, 0.25, 0.5, 0.75, 1.0)})
    level = 1.0 - (1.0 - confidence) / len(halves)
    best = Guesses(0.0, 0, 0)
    for half in halves:
        right = int((~included[order[:half]]).sum() + included[order[m - half :]].sum())
        bound = epsilon_lower_bound(m, 2 * half, right, delta=delta, confidence=level)
        if bound >= best.epsilon:
            best = Guesses(bound, 2 * half, right)
    return best


def separation_lower_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], *, confidence: float
) -> float:
    """The least mu of a mu-Gaussian-private mechanism that scores (m,) may come from; 0: any.

    Whoever calls scores above a threshold "included" errs with rates a and b, and such a mechanism
    has mu >= -quantile(a) - quantile(b) (Dong, Roth and Su, "Gaussian Differential Privacy", 2022;
    Nasr et al., "Tight Auditing of Differentially Private Machine Learning", 2023). The rates are
    bounded by Clopper and Pearson's limits, for canaries that do not depend on each other; the
    level is divided by how many thresholds are tried, and two.
    """
    shares = (0.25, 0.5, 0.75)
    level = (1.0 - confidence) / (2 * len(shares))
    best = 0.0
    for threshold in np.quantile(scores, shares):
        called = scores > threshold
        wrong = [int(called[~included].sum()), int((~called)[included].sum())]
        of = [int((~included).sum()), int(included.sum())]
        if min(of) == 0:
            return 0.0
        rates = [
            float(beta.ppf(1.0 - level, k + 1, n - k)) if k < n else 1.0
            for k, n in zip(wrong, of, strict=True)
        ]
        best = max(best, -float(norm.ppf(rates).sum()))
    return best


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of a mu-Gaussian-private mechanism (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        apart, middle = epsilon / max(mu, 1e-9), mu / 2.0
        return float(
            norm.cdf(middle - apart) - np.exp(epsilon + norm.logcdf(-middle - apart)) - delta
        )

    return 0.0 if excess(0.0) <= 0.0 else float(brentq(excess, 0.0, (mu + 40.0) ** 2))

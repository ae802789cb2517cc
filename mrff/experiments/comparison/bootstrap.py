"""Paired bootstrap over users and seeds of any measure, and Holm's correction.

Users and seeds are crossed: every seed's model is tested on the same users. A resample draws users
and, independently, seeds, both with replacement (the pigeonhole bootstrap: Owen 2007, "The
pigeonhole bootstrap", Annals of Applied Statistics 1(2)); both methods of a pair get the same draw.
The interval is the percentile interval, the p-value its inversion with one added to both counts
(Davison and Hinkley 1997, "Bootstrap Methods and their Application", chapters 4 and 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrff.experiments.comparison.measures import Floats, Weighted

_CELLS = 4_000_000  # numbers in one array of a chunk of resamples


@dataclass(frozen=True)
class Difference:
    """Method minus reference, averaged over seeds; NaN where it cannot be told."""

    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


def resampled(
    measures: Mapping[str, Mapping[str, Sequence[Weighted]]],
    drawn_from: tuple[int, int],
    *,
    resamples: int,
    seed: Sequence[int],
) -> dict[str, dict[str, Floats]]:
    """All measures of every method's S runs on the same resamples of users.

    Args:
        measures: by name and method, one per run; S may differ.
        drawn_from: number of users, and of their items.
        seed: of the draws.

    Returns:
        By measure and method (S, 1 + resamples); column 0 is measured on all users as they are.
    """
    parts: dict[str, dict[str, list[Floats]]] = {
        name: {method: [] for method in of} for name, of in measures.items()
    }
    for counts in _user_counts(*drawn_from, resamples, np.random.default_rng(seed)):
        for name, of in measures.items():
            for method, runs in of.items():
                parts[name][method].append(np.stack([measure(counts) for measure in runs]))
    return {
        name: {method: np.concatenate(chunks, axis=1) for method, chunks in of.items()}
        for name, of in parts.items()
    }


def paired_difference(
    method: Floats, reference: Floats, *, confidence: float, seed: Sequence[int]
) -> Difference:
    """Compares two methods on the resamples that `resampled` gave, (S, 1 + R) each.

    The seeds of both must be the same, in the same order; a single row stands for a method
    without seeds. Resamples in which a measure is undefined are left out; if that is more than one
    in a hundred, the interval and the p-value are undefined too.
    """
    differences = method - reference  # (S, 1 + R), broadcast over a method without seeds
    seeds, columns = differences.shape
    draws = np.random.default_rng(seed).integers(0, seeds, (columns, seeds))
    draws[0] = np.arange(seeds)  # the estimate itself: every seed once
    values = np.take_along_axis(differences.T, draws, axis=1).mean(axis=1)
    estimate, replicates = float(values[0]), values[1:]
    defined = replicates[np.isfinite(replicates)]
    if not math.isfinite(estimate) or len(defined) < 0.99 * len(replicates):
        return Difference(estimate)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Difference(estimate, float(low), float(high), p_value(defined))


def p_value(replicates: Floats) -> float:
    """Two-sided p-value of "no difference" from replicates of the difference, never above 1."""
    below, above = int((replicates <= 0).sum()), int((replicates >= 0).sum())
    return min(1.0, 2.0 * (1 + min(below, above)) / (1 + len(replicates)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order (Holm 1979); NaN stands for no test and stays NaN.

    The i-th smallest of m, counted from 0, is multiplied by m - i; the results are made to rise.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if math.isfinite(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = highest
    return adjusted


def _user_counts(
    users: int, items: int, resamples: int, random: np.random.Generator
) -> Iterator[Floats]:
    """(C, U) how often each user was drawn, in chunks; the first row is every user once."""
    yield np.ones((1, users))
    size = max(1, _CELLS // max(items, users))
    for first in range(0, resamples, size):
        rows = min(size, resamples - first)
        drawn = random.integers(0, users, (rows, users))
        drawn += np.arange(rows)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=rows * users)
        yield counts.reshape(rows, users).astype(np.float64)

"""Paired bootstrap over users and seeds of AUC and log loss, and Holm's correction.

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
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
METRICS = ("auc", "log_loss")
_CELLS = 4_000_000  # numbers in one array of a chunk of resamples


@dataclass(frozen=True)
class Difference:
    """Method minus reference, averaged over seeds; NaN where it cannot be told."""

    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


class RankedScores:
    """Scores of (U, k) test items, sorted once so that weights of users give AUCs quickly."""

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        values = np.asarray(scores, dtype=np.float64)
        flat = values.ravel()
        order = np.argsort(flat, kind="stable")
        ranked = flat[order]
        self._owner = order // values.shape[1]  # (N,) user of the item at each rank
        self._negative = np.asarray(labels).ravel()[order] < 0.5
        positive = np.flatnonzero(~self._negative)
        self._positive_owner = self._owner[positive]
        # ranks of the positive's ties: a negative among them is half below it
        self._first = np.searchsorted(ranked, ranked[positive], side="left")
        self._end = np.searchsorted(ranked, ranked[positive], side="right")

    def auc(self, weights: ArrayLike) -> Floats:
        """(R,) AUC of all items pooled, for (R, U) weights of users; NaN over one class only."""
        weight = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        below = np.zeros((len(weight), len(self._owner) + 1))
        np.cumsum(weight[:, self._owner] * self._negative, axis=1, out=below[:, 1:])
        positive = weight[:, self._positive_owner]
        wins = (positive * 0.5 * (below[:, self._first] + below[:, self._end])).sum(axis=1)
        pairs = positive.sum(axis=1) * below[:, -1]
        return np.divide(wins, pairs, out=np.full(len(weight), np.nan), where=pairs > 0)


def user_log_loss(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """(U,) mean over a user's k targets of the log loss, natural logarithm."""
    values = np.asarray(logits, dtype=np.float64)
    losses = np.logaddexp(0.0, np.where(np.asarray(labels) > 0.5, -values, values))
    return np.asarray(losses.mean(axis=1))


def resampled(
    logits: Mapping[str, Floats], labels: ArrayLike, *, resamples: int, seed: Sequence[int]
) -> dict[str, dict[str, Floats]]:
    """Both metrics of every method's runs on the same resamples of users.

    Args:
        logits: (S, U, k) of each method; S may differ.
        labels: (U, k).
        seed: of the draws.

    Returns:
        By metric and method (S, 1 + resamples); column 0 is measured on all users as they are.
    """
    ranked = {name: [RankedScores(run, labels) for run in runs] for name, runs in logits.items()}
    losses = {
        name: np.stack([user_log_loss(run, labels) for run in runs])
        for name, runs in logits.items()
    }
    parts: dict[str, dict[str, list[Floats]]] = {m: {n: [] for n in logits} for m in METRICS}
    items, users = np.asarray(labels).size, len(np.asarray(labels))
    for counts in _user_counts(users, items, resamples, np.random.default_rng(seed)):
        for name, runs in ranked.items():
            parts["auc"][name].append(np.stack([run.auc(counts) for run in runs]))
            parts["log_loss"][name].append(losses[name] @ counts.T / users)
    return {
        metric: {name: np.concatenate(of, axis=1) for name, of in named.items()}
        for metric, named in parts.items()
    }


def paired_difference(
    method: Floats, reference: Floats, *, confidence: float, seed: Sequence[int]
) -> Difference:
    """Compares two methods on the resamples that `resampled` gave, (S, 1 + R) each.

    The seeds of both must be the same, in the same order; a single row stands for a method
    without seeds. Resamples in which a metric is undefined are left out; if that is more than one
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

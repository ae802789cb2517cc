"""The measures whose differences are tested. A new one: its function, and its line in `TESTED`.

Each is a function of weights of users, so that a resample of users is one product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client_app.kept_scores import KeptScores
from mrff.metrics.ranking import BRIEF_LENGTH, LENGTHS, expected_gains

Floats = NDArray[np.float64]
Weighted = Callable[[ArrayLike], Floats]
"""(R,) the measure, for (R, U) weights of users; NaN where it is undefined."""


@dataclass(frozen=True)
class Tested:
    """A measure of kept scores.

    Args:
        label: as people read it.
        direction: which way is better, in words.
        of: of a run's scores; None where the run does not measure it.
    """

    label: str
    direction: str
    of: Callable[[KeptScores], Weighted | None]


def user_log_loss(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """(U,) mean over a user's k targets of the log loss, natural logarithm."""
    values = np.asarray(logits, dtype=np.float64)
    losses = np.logaddexp(0.0, np.where(np.asarray(labels) > 0.5, -values, values))
    return np.asarray(losses.mean(axis=1))


def restricted(measure: Weighted, inside: Floats, weights: ArrayLike) -> Floats:
    """The measure among the users ``inside`` (U,), 1 or 0 each."""
    return measure(np.atleast_2d(np.asarray(weights, dtype=np.float64)) * inside)


def mean_over_users(totals: Floats, counts: Floats) -> Weighted:
    """A mean over targets, from users' totals (U,) over their counts (U,) of targets."""

    def value(weights: ArrayLike) -> Floats:
        weight = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        over = weight @ counts
        return np.divide(weight @ totals, over, out=np.full(len(over), np.nan), where=over > 0)

    return value


def auc_of(scores: ArrayLike, labels: ArrayLike) -> Weighted:
    """AUC of all (U, k) items pooled; they are sorted once for all weights of users."""
    values = np.asarray(scores, dtype=np.float64)
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    owner = order // values.shape[1]  # (N,) user of the item at each rank
    negative = np.asarray(labels).ravel()[order] < 0.5
    positives = np.flatnonzero(~negative)
    # ranks of a positive's ties: a negative among them is half below it
    first = np.searchsorted(ranked, ranked[positives], side="left")
    end = np.searchsorted(ranked, ranked[positives], side="right")

    def value(weights: ArrayLike) -> Floats:
        weight = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        below = np.zeros((len(weight), len(owner) + 1))
        np.cumsum(weight[:, owner] * negative, axis=1, out=below[:, 1:])
        positive = weight[:, owner[positives]]
        wins = (positive * 0.5 * (below[:, first] + below[:, end])).sum(axis=1)
        pairs = positive.sum(axis=1) * below[:, -1]
        return np.divide(wins, pairs, out=np.full(len(weight), np.nan), where=pairs > 0)

    return value


def _auc(kept: KeptScores) -> Weighted | None:
    return None if kept.logits is None else auc_of(kept.logits, kept.labels)


def _log_loss(kept: KeptScores) -> Weighted | None:
    if kept.logits is None:
        return None
    losses = user_log_loss(kept.logits, kept.labels)
    return mean_over_users(losses, np.ones_like(losses))


def _gain(kept: KeptScores, kind: str) -> Weighted | None:
    """HR or NDCG at 10, over the answers that count."""
    if kept.ranks is None:
        return None
    gains = expected_gains(kept.ranks, kind)[:, :, 0, LENGTHS.index(BRIEF_LENGTH)]
    counts = kept.ranks.counts
    return mean_over_users((gains * counts).sum(1), counts.sum(1).astype(np.float64))


_HIGHER = "higher is better"
TESTED: Mapping[str, Tested] = {
    "auc": Tested("AUC", _HIGHER, _auc),
    "log_loss": Tested("LogLoss", "lower is better", _log_loss),
    "hr10": Tested("HR@10", _HIGHER, partial(_gain, kind="hr")),
    "ndcg10": Tested("NDCG@10", _HIGHER, partial(_gain, kind="ndcg")),
}


def measured(kept: KeptScores) -> dict[str, Weighted]:
    """The measures that a run's scores tell, by name."""
    found = {name: tested.of(kept) for name, tested in TESTED.items()}
    return {name: measure for name, measure in found.items() if measure is not None}

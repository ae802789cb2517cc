"""Quality measures that can be computed from sums: AUC by histograms, calibration, loads, churn.

Nodes upload histograms of scores and sums; nobody but the node sees a user's labels or scores.
All functions take and return numpy arrays and plain floats; ``nan`` means undefined, for instance
an AUC over one class only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]


def score_histograms(scores: ArrayLike, labels: ArrayLike, bins: int) -> tuple[Counts, Counts]:
    """Counts of positives and of negatives per score bin, each of shape (bins,).

    Args:
        scores: (N,) in [0, 1], for instance the sigmoid of the logits.
        labels: (N,), positive if above 0.5.
        bins: equally wide bins over [0, 1]; a score of 1 falls into the last one.

    Raises:
        ValueError: a score outside [0, 1], or not a number.
    """
    flat = np.asarray(scores, dtype=np.float64).ravel()
    positive = np.asarray(labels).ravel() > 0.5
    if not np.all((flat >= 0.0) & (flat <= 1.0)):
        raise ValueError(f"scores must be between 0 and 1, got {flat.min()} to {flat.max()}")
    which = np.minimum((flat * bins).astype(np.int64), bins - 1)
    positives = np.bincount(which[positive], minlength=bins)
    negatives = np.bincount(which[~positive], minlength=bins)
    return positives.astype(np.int64), negatives.astype(np.int64)


def histogram_auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """AUC of binned scores, shapes (bins,): a pair that shares a bin counts one half.

    It equals the AUC of the scores rounded to their bins exactly. `auc_error_bound` says how far
    the AUC of the unrounded scores can be away.
    """
    above, below = _counts(positives), _counts(negatives)
    pairs = above.sum() * below.sum()
    if pairs == 0.0:
        return math.nan
    lower = np.cumsum(below) - below  # (bins,) negatives in lower bins
    return float(np.dot(above, lower + 0.5 * below) / pairs)


def auc_error_bound(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The most by which `histogram_auc` can differ from the AUC of the unrounded scores.

    Only pairs within a bin are undecided, and each contributes an error of at most one half.
    """
    above, below = _counts(positives), _counts(negatives)
    pairs = above.sum() * below.sum()
    return float(0.5 * np.dot(above, below) / pairs) if pairs else math.nan


def exact_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """AUC of shape (N,) scores, ties counting one half; for one user's GAUC term."""
    flat = np.asarray(scores, dtype=np.float64).ravel()
    positive = np.asarray(labels).ravel() > 0.5
    num_positive = int(positive.sum())
    num_negative = len(flat) - num_positive
    if num_positive == 0 or num_negative == 0:
        return math.nan
    _, which, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * (counts - 1))[which]  # 1-based, ties share their mean
    rank_sum = float(ranks[positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def calibration_error(positives: ArrayLike, negatives: ArrayLike, groups: int = 10) -> float:
    """Expected calibration error over equally wide groups of scores.

    The mean over targets of the distance between a group's mean score and its share of positives
    (Naeini et al. 2015, eq. 3). Scores are taken at their bin's middle, hence exact to half a bin.
    """
    above, below = _counts(positives), _counts(negatives)
    total = above + below
    if total.sum() == 0.0:
        return math.nan
    middle = (np.arange(len(total)) + 0.5) / len(total)
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    hits = np.bincount(group, weights=above, minlength=groups)
    scores = np.bincount(group, weights=total * middle, minlength=groups)
    return float(np.abs(hits - scores).sum() / total.sum())


def load_shares(users: ArrayLike) -> NDArray[np.float64]:
    """Share of the users on each expert, by layer: (layers, K) counts to (layers, K) shares."""
    counts = np.asarray(users, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.zeros_like(counts)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def load_entropy(users: ArrayLike) -> float:
    """How evenly users spread over experts: mean over layers of entropy / log K.

    1 is even, 0 is everybody on one expert; ``nan`` without users, 1 with a single expert.
    """
    shares = load_shares(users)
    if not shares.any():
        return math.nan
    experts = shares.shape[1]
    if experts == 1:
        return 1.0
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=1).mean() / math.log(experts))


def churn(changed_users: int, compared_users: int) -> float:
    """Share of the users with a known earlier route whose expert changed in some layer."""
    return changed_users / compared_users if compared_users else math.nan


def mean_or_nan(total: float, count: int) -> float:
    """``total / count``, ``nan`` over nothing."""
    return total / count if count else math.nan


def _counts(histogram: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(histogram, dtype=np.float64)

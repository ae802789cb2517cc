"""Quality measures that can be computed from sums: AUC by histograms, calibration, loads, churn.

Nodes upload histograms of scores and sums; nobody but the node sees a user's labels or scores.
All functions take and return numpy arrays and plain floats; ``nan`` means undefined, for instance
an AUC over one class only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    return float(abs((shares * logs).sum(axis=1).mean()) / math.log(experts))


def churn(changed_users: int, compared_users: int) -> float:
    """Share of the users with a known earlier route whose expert changed in some layer."""
    return changed_users / compared_users if compared_users else math.nan


def mean_or_nan(total: float, count: int) -> float:
    """``total / count``, ``nan`` over nothing."""
    return total / count if count else math.nan


def _counts(histogram: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(histogram, dtype=np.float64)

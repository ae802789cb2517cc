"""AUC from histograms of scores: how often a positive target is scored above a negative one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrff.metrics.metric import Grain, Metric, Numbers, Scored, Statistic
from mrff.sums import CohortSums, Quantity


def _compute(scored: Scored, grain: Grain) -> Numbers:
    """Counts of scores in bins of equal width on [0, 1], by label."""
    positive = scored.labels > 0.5
    probabilities = 1.0 / (1.0 + np.exp(-np.clip(scored.logits, -700, 700)))
    places = np.minimum((probabilities * grain.bins).astype(np.int64), grain.bins - 1)
    return {
        "positives": np.bincount(places[positive], minlength=grain.bins),
        "negatives": np.bincount(places[~positive], minlength=grain.bins),
    }


def _quantities(grain: Grain) -> Mapping[str, Quantity]:
    return dict.fromkeys(("positives", "negatives"), Quantity((grain.bins,), whole=True))


def _check(sums: CohortSums) -> str:
    counted = int(sums.numbers["positives"].sum() + sums.numbers["negatives"].sum())
    targets = sums.number("targets")
    return "" if counted == targets else f"histograms count {counted} targets, targets is {targets}"


HISTOGRAMS = Statistic(_compute, _quantities, lambda grain: float(grain.holdout), _check)


def histogram_auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """AUC of binned scores, shapes (bins,): a pair that shares a bin counts one half.

    It equals the AUC of the scores rounded to their bins exactly. `auc_error_bound` says how far
    the AUC of the unrounded scores can be away.
    """
    above, below = counts_of(positives), counts_of(negatives)
    pairs = above.sum() * below.sum()
    if pairs == 0.0:
        return math.nan
    lower = np.cumsum(below) - below  # (bins,) negatives in lower bins
    return float(np.dot(above, lower + 0.5 * below) / pairs)


def auc_error_bound(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The most by which `histogram_auc` can differ from the AUC of the unrounded scores.

    Only pairs within a bin are undecided, and each contributes an error of at most one half.
    """
    above, below = counts_of(positives), counts_of(negatives)
    pairs = above.sum() * below.sum()
    return float(0.5 * np.dot(above, below) / pairs) if pairs else math.nan


def counts_of(histogram: ArrayLike) -> NDArray[np.float64]:
    """A histogram as float64."""
    return np.asarray(histogram, dtype=np.float64)


def histograms_of(sums: CohortSums) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of positive and of negative targets."""
    return sums.numbers["positives"], sums.numbers["negatives"]


AUC = Metric(
    "auc", "AUC", HISTOGRAMS, lambda s: histogram_auc(*histograms_of(s)), "higher", brief=True
)
AUC_ERROR_BOUND = Metric(
    "auc_error_bound",
    "AUC's binning error, at most",
    HISTOGRAMS,
    lambda s: auc_error_bound(*histograms_of(s)),
    digits=5,
)

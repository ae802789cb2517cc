"""Calibration error: how far predicted probabilities are from what happens."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mrff.metrics.auc import HISTOGRAMS, counts_of, histograms_of
from mrff.metrics.metric import Metric


def calibration_error(positives: ArrayLike, negatives: ArrayLike, groups: int = 10) -> float:
    """Expected calibration error over equally wide groups of scores.

    The mean over targets of the distance between a group's mean score and its share of positives
    (Naeini et al. 2015, eq. 3). Scores are taken at their bin's middle, hence exact to half a bin.
    """
    above, below = counts_of(positives), counts_of(negatives)
    total = above + below
    if total.sum() == 0.0:
        return math.nan
    middle = (np.arange(len(total)) + 0.5) / len(total)
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    hits = np.bincount(group, weights=above, minlength=groups)
    scores = np.bincount(group, weights=total * middle, minlength=groups)
    return float(np.abs(hits - scores).sum() / total.sum())


CALIBRATION_ERROR = Metric(
    "calibration_error",
    "calibration error",
    HISTOGRAMS,
    lambda s: calibration_error(*histograms_of(s)),
    "lower",
)

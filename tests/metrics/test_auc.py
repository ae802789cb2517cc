"""AUC from histograms, against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mrff.metrics.auc import auc_error_bound, histogram_auc
from tests.support.binned_scores import binned, sample


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([2, 16, 64, 2048]))
def test_histogram_auc_is_sklearns_on_rounded_scores_and_within_its_bound(seed, size, bins) -> None:
    scores, labels = sample(seed, size)
    labels[:2] = 0, 1
    histograms = binned(scores, labels, bins)
    auc = histogram_auc(*histograms)
    rounded = np.minimum(np.floor(scores * bins), bins - 1)
    assert auc == pytest.approx(roc_auc_score(labels, rounded), abs=1e-12)
    exact = roc_auc_score(labels, scores)
    assert abs(auc - exact) <= auc_error_bound(*histograms) + 1e-12


def test_the_default_bins_are_fine_enough() -> None:
    """943 targets, as in ml-100k with the last interaction held out: below 1e-3."""
    for seed in range(5):
        assert auc_error_bound(*binned(*sample(seed, 943), 2048)) < 1e-3


def test_auc_worked_by_hand() -> None:
    """Positives in bins 1 and 2, negatives in 0 and 2: 1 + 0 + 1 + 1/2 of 4 pairs."""
    assert histogram_auc([0, 1, 1], [1, 0, 1]) == 2.5 / 4
    assert auc_error_bound([0, 1, 1], [1, 0, 1]) == 0.5 / 4


def test_one_class_has_no_auc() -> None:
    assert math.isnan(histogram_auc([1, 2], [0, 0]))
    assert math.isnan(auc_error_bound([0, 0], [3, 0]))

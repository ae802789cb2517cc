from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mrff_model import metrics


def binned(scores: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.minimum((scores * bins).astype(int), bins - 1)
    positive = labels > 0.5
    return (
        np.bincount(places[positive], minlength=bins),
        np.bincount(places[~positive], minlength=bins),
    )


def sample(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 2, size)
    return scores, (rng.random(size) < scores).astype(int)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([2, 16, 64, 2048]))
def test_histogram_auc_is_sklearns_on_rounded_scores_and_within_its_bound(seed, size, bins) -> None:
    scores, labels = sample(seed, size)
    labels[:2] = 0, 1
    histograms = binned(scores, labels, bins)
    auc = metrics.histogram_auc(*histograms)
    rounded = np.minimum(np.floor(scores * bins), bins - 1)
    assert auc == pytest.approx(roc_auc_score(labels, rounded), abs=1e-12)
    exact = roc_auc_score(labels, scores)
    assert abs(auc - exact) <= metrics.auc_error_bound(*histograms) + 1e-12


def test_the_default_bins_are_fine_enough() -> None:
    """943 targets, as in ml-100k with the last interaction held out: below 1e-3."""
    for seed in range(5):
        assert metrics.auc_error_bound(*binned(*sample(seed, 943), 2048)) < 1e-3


def test_auc_worked_by_hand() -> None:
    """Positives in bins 1 and 2, negatives in 0 and 2: 1 + 0 + 1 + 1/2 of 4 pairs."""
    assert metrics.histogram_auc([0, 1, 1], [1, 0, 1]) == 2.5 / 4
    assert metrics.auc_error_bound([0, 1, 1], [1, 0, 1]) == 0.5 / 4


def test_one_class_has_no_auc() -> None:
    assert math.isnan(metrics.histogram_auc([1, 2], [0, 0]))
    assert math.isnan(metrics.auc_error_bound([0, 0], [3, 0]))


def test_calibration_error_worked_by_hand() -> None:
    """Two bins, middles 0.25 and 0.75; half of four are positive below, all of two above."""
    error = metrics.calibration_error([2, 2], [2, 0], groups=2)
    assert error == pytest.approx((4 * abs(0.5 - 0.25) + 2 * abs(1.0 - 0.75)) / 6)


def test_calibrated_scores_have_almost_no_error() -> None:
    histograms = binned(*sample(1, 200_000), 2048)
    assert metrics.calibration_error(*histograms) < 0.01
    assert math.isnan(metrics.calibration_error([0, 0], [0, 0]))


def test_load_shares_and_entropy() -> None:
    np.testing.assert_array_equal(metrics.load_shares([[1, 3], [0, 0]]), [[0.25, 0.75], [0.0, 0.0]])
    assert metrics.load_entropy([[5, 5, 5, 5]]) == pytest.approx(1.0)
    assert metrics.load_entropy([[9, 0, 0, 0]]) == 0.0
    assert metrics.load_entropy([[1, 1, 0, 0], [2, 0, 0, 0]]) == pytest.approx(0.25)
    assert metrics.load_entropy([[7]]) == 1.0
    assert math.isnan(metrics.load_entropy([[0, 0]]))


def test_churn() -> None:
    assert metrics.churn(1, 4) == 0.25
    assert math.isnan(metrics.churn(0, 0))

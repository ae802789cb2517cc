"""Calibration error, by hand and of calibrated scores."""

from __future__ import annotations

import math

import pytest

from mrff.metrics.calibration import calibration_error
from tests.support.binned_scores import binned, sample


def test_calibration_error_worked_by_hand() -> None:
    """Two bins, middles 0.25 and 0.75; half of four are positive below, all of two above."""
    error = calibration_error([2, 2], [2, 0], groups=2)
    assert error == pytest.approx((4 * abs(0.5 - 0.25) + 2 * abs(1.0 - 0.75)) / 6)


def test_calibrated_scores_have_almost_no_error() -> None:
    histograms = binned(*sample(1, 200_000), 2048)
    assert calibration_error(*histograms) < 0.01
    assert math.isnan(calibration_error([0, 0], [0, 0]))

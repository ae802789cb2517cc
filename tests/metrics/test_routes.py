"""Loads of experts and how even they are, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrff.metrics.routes import churn, load_entropy, load_shares
from mrff.sums import CohortSums
from mrff.sums.cohort_sums import as_numbers


def test_load_shares_and_entropy() -> None:
    np.testing.assert_array_equal(load_shares([[1, 3], [0, 0]]), [[0.25, 0.75], [0.0, 0.0]])
    assert load_entropy([[5, 5, 5, 5]]) == pytest.approx(1.0)
    assert load_entropy([[9, 0, 0, 0]]) == 0.0
    assert load_entropy([[1, 1, 0, 0], [2, 0, 0, 0]]) == pytest.approx(0.25)
    assert load_entropy([[7]]) == 1.0
    assert math.isnan(load_entropy([[0, 0]]))


def test_churn() -> None:
    def share(changed: int, compared: int) -> float:
        return churn(CohortSums({}, as_numbers({"changed": changed, "compared": compared})))

    assert share(3, 12) == 0.25
    assert math.isnan(share(0, 0))

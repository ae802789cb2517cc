"""One vector, one norm: equally long statistics for everybody, and what their sum tells."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.privacy.mechanisms.clipping import Bound


@given(
    clipping_norm=st.floats(1e-3, 1e3),
    share=st.floats(0.0, 0.9),
    layers=st.integers(1, 4),
    experts=st.integers(1, 5),
    order=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_update_and_statistics_together_have_norm_c_whatever_the_route(
    clipping_norm: float, share: float, layers: int, experts: int, order: int, seed: int
) -> None:
    bound = Bound(clipping_norm, share, layers, experts, order=1 if order == 1 else 2)
    random = np.random.default_rng(seed)
    routes = random.integers(0, experts, (6, layers))
    statistics = bound.statistics(routes, random.random(6) < 0.5)
    norms = np.linalg.norm(statistics, order, axis=1)
    np.testing.assert_allclose(norms, norms[0])
    parts = norms[0] + bound.for_update if order == 1 else math.hypot(norms[0], bound.for_update)
    assert parts == pytest.approx(clipping_norm)


def test_loads_and_clipped_share_come_back_from_the_sum() -> None:
    bound = Bound(2.0, 0.3, num_layers=2, num_experts=3)
    routes = np.array([[0, 2], [0, 1], [1, 1], [0, 1]])
    total = bound.statistics(routes, np.array([True, False, False, False])).sum(axis=0)
    loads, clipped = bound.shares(total, 4)
    assert loads is not None
    np.testing.assert_allclose(loads, [[0.75, 0.25, 0.0], [0.0, 0.75, 0.25]])
    assert clipped == pytest.approx(0.25)


def test_noise_that_drowns_the_counts_gives_even_loads_and_a_share_within_limits() -> None:
    bound = Bound(1.0, 0.1, num_layers=1, num_experts=4)
    loads, clipped = bound.shares(np.array([-1.0, -2.0, -0.5, -3.0, 9.0]), 10)
    assert loads is not None
    assert loads.tolist() == [[0.25] * 4]
    assert clipped == 1.0


def test_without_a_share_nothing_is_measured() -> None:
    bound = Bound(1.0, 0.0, num_layers=2, num_experts=4)
    assert bound.for_update == 1.0
    assert not bound.statistics(np.zeros((1, 2), np.int64), np.array([True])).any()
    assert bound.shares(np.zeros(9), 10) == (None, None)


def test_adaptive_clipping_walks_to_the_quantile() -> None:
    """Andrew et al. 2021: of norms 1, 2, ..., 100 the median is near 50, from either side."""
    norms = np.arange(1.0, 101.0)
    for start in (0.5, 2000.0):
        bound = Bound(start, 0.1, 1, 2)
        for _ in range(200):
            clipped = float((norms > bound.for_update).mean())
            bound = Bound(bound.next_clipping_norm(clipped, 0.5, 0.2), 0.1, 1, 2)
        assert 45.0 <= bound.for_update <= 56.0


@pytest.mark.parametrize("clipping_norm", [0.0, -1.0, math.inf, math.nan])
def test_impossible_norms(clipping_norm: float) -> None:
    with pytest.raises(ValueError, match="clipping-norm must be finite and greater than 0"):
        Bound(clipping_norm, 0.1, 1, 2)

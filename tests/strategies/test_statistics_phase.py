"""The phase before the first round: what replies may hold, and sums that cannot be solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrff.linear.item_factors import FIRST, SECOND, SPREAD
from mrff.metrics.lists import ITEM_COUNTS
from mrff.privacy.mechanisms.none import PlainServer
from mrff.sums import BadReplyError, CohortSums
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.requests import FACTOR_SUMS, ITEM_LIKES, SQUARES, USERS
from strategies.statistics_phase import check_item_rates, check_moments, statistics

SHARED = {
    "item_statistics.rates": np.zeros((4, 2), np.float32),
    "item_statistics.prior": np.zeros(2, np.float32),
    "item_statistics.vectors": np.zeros((4, 2), np.float32),
}


def moments(spread: list[float]) -> CohortSums:
    """Three items, vectors of two numbers."""
    updates = {SECOND: np.ones((3, 3)), FIRST: np.ones((3, 2)), SPREAD: np.array(spread)}
    return CohortSums(updates, {SQUARES: np.array(2.0), USERS: np.array(5)})


class Nodes:
    """Answers as nodes would; ``spread`` are the moments of tastes."""

    def __init__(self, spread: list[float]) -> None:
        self.spread = spread

    def of_step(self, number: int) -> Nodes:
        return self

    def __call__(self, message_type: str, *asked: Any) -> CohortSums:
        if message_type == FACTOR_SUMS:
            return moments(self.spread)
        counts = {ITEM_COUNTS: np.array([4, 0, 6]), ITEM_LIKES: np.array([3, 0, 2])}
        return CohortSums({}, counts)


def test_the_arrays_are_what_the_sums_say() -> None:
    found = statistics(Nodes([5.0, 0.0, 5.0]), PlainServer(), SHARED, seed=0)
    assert found["item_statistics.rates"].tolist() == [[0, 0], [4, 3], [0, 0], [6, 2]]
    # (5 + 0.5) of (10 + 1) were liked; residuals of 2 squared over ten rows
    assert found["item_statistics.prior"].tolist() == pytest.approx([0.5, 0.2])
    assert {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in SHARED.items()}


def test_sums_that_are_no_moments_end_the_run_with_one_line() -> None:
    with pytest.raises(RoundFailedError, match="no moments of anybody's taste"):
        statistics(Nodes([5.0, 9.0, 5.0]), PlainServer(), SHARED, seed=0)


def test_impossible_replies_do_not_count() -> None:
    check_moments(moments([1.0, -1.0, 1.0]))  # products may be below 0
    with pytest.raises(BadReplyError, match="squares below 0"):
        check_moments(moments([1.0, 0.0, -1.0]))
    counts = {ITEM_COUNTS: np.array([4, 1]), ITEM_LIKES: np.array([3, 2])}
    with pytest.raises(BadReplyError, match="more often than met"):
        check_item_rates(CohortSums({}, counts))

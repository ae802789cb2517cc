"""The measure that chooses the round of a network for clicks and next items, by hand."""

import math

import numpy as np
import pytest

from mrff.metrics import READS, Evaluation, metric_named
from mrff.metrics.metric import Grain, Ranks, Scored

CHOSEN_BY = metric_named("auc_ndcg10")


def measured(logits: list[float], labels: list[int], better: list[int]) -> dict[str, float | None]:
    """Of one held-out item per user: a click's logit, its label, and the items ranked above."""
    users = len(labels)
    ranks = Ranks.nothing_yet(users, 1)
    ranks.better[:, 0, 0], ranks.candidates[:] = better, 100
    routes = np.zeros((users, 1), dtype=np.int64)
    scored = Scored(np.array(logits)[:, None], np.array(labels)[:, None], routes, routes, ranks)
    evaluation = Evaluation(Grain(16, (1, 1), 1), reads=READS["both"])
    return evaluation.measures(evaluation.sums_of(scored))


def test_it_is_what_both_have_above_chance() -> None:
    """Three of four pairs in order: 2 x 0.75 - 1. Ranks 1, 3 and two beyond ten."""
    found = measured([2.0, -1.0, 1.0, -2.0], [1, 1, 0, 0], [0, 2, 20, 30])
    assert found["auc"] == 0.75
    assert found["ndcg10"] == pytest.approx((1 + 1 / 2) / 4)
    assert found["auc_ndcg10"] == pytest.approx(0.5 * 1.5 / 4)


def test_what_is_undefined_or_below_chance_wins_nothing() -> None:
    assert measured([1.0, 2.0], [1, 1], [0, 0])["auc_ndcg10"] is None
    worse_than_chance = measured([-2.0, 2.0], [1, 0], [0, 0])
    assert (worse_than_chance["auc"], worse_than_chance["auc_ndcg10"]) == (0.0, 0.0)


def test_neither_measure_alone_decides() -> None:
    """A little AUC is given up for many more hits, and few more hits cost no AUC."""
    labels = [1, 1, 0, 0]
    liked = measured([2.0, 1.0, -1.0, -2.0], labels, [9, 9, 9, 9])
    listed = measured([2.0, -1.0, 1.0, -2.0], labels, [0, 0, 0, 0])
    slightly = measured([2.0, -1.0, 1.0, -2.0], labels, [9, 9, 9, 7])
    for better, worse in ((listed, liked), (liked, slightly)):
        assert CHOSEN_BY.is_better(better["auc_ndcg10"], worse["auc_ndcg10"])
    assert liked["auc"] == 1.0
    assert slightly["ndcg10"] == pytest.approx((3 / math.log2(11) + 1 / math.log2(9)) / 4)


def test_only_a_run_that_learns_both_measures_it() -> None:
    for objective, reads in READS.items():
        names = [m.name for m in Evaluation(Grain(16, (1, 1), 1), reads=reads).metrics]
        assert ("auc_ndcg10" in names) == (objective == "both")

"""HR, NDCG and MRR: numbers by hand, ties against every order, what a node may send."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.config import RunConfig, full_names
from mrff.metrics import READS, Evaluation, evaluation_of, metric_named
from mrff.metrics.lists import ITEM_COUNTS
from mrff.metrics.metric import Grain, Ranks, Scored
from mrff.metrics.ranking import LENGTHS, expected_gains
from mrff.sums import CohortSums

GRAIN = Grain(16, (1, 1), 2)


def ranks(better: list[list[int]], ties: list[list[int]] | None = None) -> Ranks:
    above = np.array(better)
    level = np.zeros_like(above) if ties is None else np.array(ties)
    apart = np.arange(above.size).reshape(above.shape) % 2 == 1
    met = np.arange(above.size).reshape(above.shape) % 4 == 2
    listed = np.zeros((*above.shape, 10), dtype=np.int32)
    listed[..., 0], listed[..., 1] = 3, np.arange(above.size).reshape(above.shape) + 1
    every = np.ones_like(apart)
    return Ranks(above[..., None], level[..., None], above + 100, apart, met, every, listed)


def scored(found: Ranks) -> Scored:
    zeros, routes = np.zeros(found.better.shape), np.zeros((len(found.better), 1), dtype=np.int64)
    return Scored(zeros, zeros, routes, before=routes, ranks=found)


def test_measures_worked_by_hand() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    sums = evaluation.sums_of(scored(ranks([[0, 2], [9, 60]])))  # ranks 1, 3, 10 and 61
    measures = evaluation.measures(sums)
    assert measures["hr1"] == 0.25
    assert measures["hr5"] == 0.5
    assert measures["hr10"] == measures["hr50"] == 0.75
    assert measures["ndcg10"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(11)) / 4)
    assert measures["mrr10"] == pytest.approx((1 + 1 / 3 + 1 / 10) / 4)
    assert measures["candidates"] == pytest.approx(100 + 71 / 4)
    assert measures["apart_share"] == 0.5  # ranks 3 and 61
    assert measures["hr10_apart"] == 0.5
    assert measures["ndcg10_apart"] == pytest.approx(1 / 2 / 2)
    assert measures["repeated_share"] == 0.25  # rank 10
    assert measures["hr10_repeated"] == 1.0
    assert measures["hr10_new"] == pytest.approx(2 / 3)
    assert measures["ndcg10_new"] == pytest.approx((1 + 1 / 2) / 3)
    assert "auc" not in measures
    assert measures["coverage10"] is None  # not counted
    assert evaluation.check(sums) == ""


def test_without_repeated_answers_nothing_is_told_apart() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    found = ranks([[0, 2], [9, 60]])
    found.met[:] = False
    measures = evaluation.measures(evaluation.sums_of(scored(found)))
    assert measures["repeated_share"] == 0
    assert measures["hr10_repeated"] is None


def test_coverage_and_popularity_of_lists_by_hand() -> None:
    """Lists are 3 1, 3 2, 3 3, 3 4: 4 of 5 items; item 3 five times, the others once each."""
    evaluation = Evaluation(GRAIN, reads=READS["next"]).by(listed=5)
    sums = evaluation.sums_of(scored(ranks([[0, 2], [9, 60]])))
    assert sums.numbers["listed"].tolist() == [1, 1, 5, 1, 0]
    assert evaluation.measures(sums)["coverage10"] == 4 / 5
    assert evaluation.measures(sums)["popularity10"] is None  # nobody has asked how popular
    assert evaluation.check(sums) == ""
    sums += CohortSums({}, {ITEM_COUNTS: np.array([10, 0, 20, 10, 10])})
    assert evaluation.measures(sums)["popularity10"] == pytest.approx((120 / 8) / 10)
    sums.numbers["listed"][0] = 41
    assert "48 places in 4 lists" in evaluation.check(sums)


def test_lists_of_answers_that_are_not_asked_for_are_not_counted() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"]).by(listed=5)
    found = ranks([[0, 2], [9, 60]])
    found.counts[:] = [[False, True], [False, False]]
    assert evaluation.sums_of(scored(found)).numbers["listed"].tolist() == [0, 1, 1, 0, 0]


@given(st.integers(0, 4), st.integers(0, 4))
@settings(deadline=None)
def test_ties_count_as_the_mean_over_every_order(better: int, ties: int) -> None:
    found = expected_gains(ranks([[better]], [[ties]]), "ndcg")[0, 0, 0]
    orders = list(itertools.permutations(range(ties + 1)))
    for length, measured in zip(LENGTHS, found, strict=True):
        places = [better + order.index(0) + 1 for order in orders]
        gains = [1 / math.log2(1 + place) if place <= length else 0.0 for place in places]
        assert measured == pytest.approx(np.mean(gains))


def test_measures_do_not_depend_on_how_users_are_spread() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    found = ranks([[0, 2], [9, 60]])
    together = evaluation.sums_of(scored(found))
    apart = evaluation.sums_of(scored(Ranks.joined([found], np.array([0]))))
    apart += evaluation.sums_of(scored(Ranks.joined([found], np.array([1]))))
    assert evaluation.measures(together) == evaluation.measures(apart)


@pytest.mark.parametrize("claimed", [[5.0, 5, 5, 5, 5], [2.0, 1, 1, 1, 1], [-1.0, 0, 0, 0, 0]])
def test_impossible_sums_of_a_node_are_found(claimed: list[float]) -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    sums = evaluation.sums_of(scored(ranks([[0, 2], [9, 60]])))
    sums.numbers["hr_sums"][:] = claimed
    assert "hr_sums" in evaluation.check(sums)


def test_answers_that_are_not_asked_for_count_nowhere() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    found = ranks([[0, 2], [9, 60]])
    found.counts[0, 1] = found.counts[1, 0] = False  # ranks 1 and 61 are left
    sums = evaluation.sums_of(scored(found))
    measures = evaluation.measures(sums)
    assert measures["hr10"] == 0.5
    assert measures["apart_share"] == 0.5
    assert measures["candidates"] == pytest.approx((100 + 160) / 2)
    assert evaluation.check(sums) == ""


def test_more_answers_apart_than_targets_are_found() -> None:
    evaluation = Evaluation(GRAIN, reads=READS["next"])
    sums = evaluation.sums_of(scored(ranks([[0, 2], [9, 60]])))
    sums.numbers["apart"] = np.array(5)
    assert "apart 5, ranked 4, targets 4" in evaluation.check(sums)


def test_a_private_mode_measures_no_ranks() -> None:
    """Sums over the ranks of a one-user node tell which item was held out."""
    config = RunConfig.from_flat(full_names({"objective": "next"}))
    open_mode, private = (evaluation_of(config, private=private) for private in (False, True))
    assert "hr_sums" in open_mode.quantities()
    assert not [name for name in private.quantities() if "sums" in name or name == "candidates"]


def test_a_best_model_can_be_chosen_by_rank() -> None:
    assert metric_named("ndcg10").better == "higher"
    assert RunConfig.from_flat(full_names({"objective": "next"})).best_by == "ndcg10"
    assert RunConfig.from_flat(full_names({"objective": "both"})).best_by == "auc_ndcg10"

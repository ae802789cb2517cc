"""From kept scores to the lines of a comparison: who is compared with whom, and when not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client_app.kept_scores import KeptScores
from mrff.experiments.comparison.measures import auc_of, mean_over_users
from mrff.experiments.comparison.plan import Statistics
from mrff.experiments.comparison.results import Comparison, compare_scores
from mrff.metrics.metric import Ranks

FAST = Statistics(resamples=200)


def kept(seed: int, *, users: int = 80, skill: float = 1.0, turned: bool = False) -> KeptScores:
    """Scores whose labels are the same for every seed; ``turned`` lists the users backwards."""
    labels = np.random.default_rng(0).integers(0, 2, (users, 2)).astype(np.uint8)
    noise = np.random.default_rng(seed + 1).normal(size=(users, 2))
    scores = KeptScores(np.arange(users, dtype=np.uint64) * 3 + 1, labels * skill + noise, labels)
    if turned:
        return scores.taken(np.arange(users)[::-1])
    return scores


def lines(
    scores: dict[str, dict[int | None, KeptScores]], statistics: Statistics = FAST
) -> dict[tuple[str, str], Comparison]:
    others = [name for name in scores if name != "mrff"]
    found = compare_scores("some", "mrff", others, scores, statistics)
    return {(line.method, line.metric): line for line in found}


def auc(scores: KeptScores, users: slice = slice(None)) -> float:
    logits, labels = scores.logits[users], scores.labels[users]
    return float(auc_of(logits, labels)([1.0] * len(logits))[0])


def test_the_difference_is_method_minus_reference_over_common_users_and_seeds() -> None:
    ours = {seed: kept(seed, skill=2.0) for seed in (0, 1, 2)}
    theirs = {seed: kept(seed + 10, users=70, skill=0.5) for seed in (1, 2, 3)}
    for scores in theirs.values():
        scores.labels[:] = ours[0].labels[:70]
    line = lines({"mrff": ours, "rival": theirs})["rival", "auc"]
    common = slice(0, 70)
    expected = np.mean([auc(theirs[s]) - auc(ours[s], common) for s in (1, 2)])
    assert line.difference == pytest.approx(expected)
    assert line.low < line.difference < line.high < 0
    assert (line.users, line.seeds, line.note) == (70, 2, "")


def test_a_method_without_seeds_is_compared_with_every_seed_of_the_other() -> None:
    ours, floor = {seed: kept(seed) for seed in (0, 1)}, kept(7, skill=0.2)
    line = lines({"mrff": ours, "floor": {None: floor}})["floor", "auc"]
    assert line.difference == pytest.approx(auc(floor) - np.mean([auc(s) for s in ours.values()]))
    assert line.seeds == 2


@pytest.mark.parametrize(
    ("scores", "note"),
    [
        ({"mrff": {0: kept(0)}, "rival": {}}, "no run of rival left test scores"),
        ({"mrff": {}, "rival": {0: kept(0)}}, "no run of mrff left test scores"),
        (
            {"mrff": {0: kept(0)}, "rival": {1: kept(1)}},
            "no seed of which both rival and mrff finished",
        ),
        (
            {"mrff": {0: kept(0, users=20)}, "rival": {0: kept(1, users=20)}},
            "too few users for a test: 20, min-users is 50",
        ),
    ],
)
def test_where_no_test_is_possible_a_sentence_stands_instead_of_a_p_value(
    scores: Any, note: str
) -> None:
    for line in lines(scores).values():
        assert math.isnan(line.p_value)
        assert math.isnan(line.low)
        assert note in line.note


def test_other_labels_for_the_same_users_are_no_comparison() -> None:
    other = kept(1)
    other = KeptScores(other.user_keys, other.logits, 1 - other.labels)
    shorter = KeptScores(other.user_keys, other.logits[:, :1], other.labels[:, :1])
    found = lines({"mrff": {0: kept(0)}, "a": {0: other}, "b": {0: shorter}, "c": {0: kept(3)}})
    for name in ("a", "b"):
        assert found[name, "auc"].note == "tested on other items than the reference"
        assert math.isnan(found[name, "auc"].difference)
    assert math.isfinite(found["c", "auc"].p_value)


def test_the_same_statistics_seed_gives_the_same_numbers() -> None:
    scores = {"mrff": {0: kept(0)}, "rival": {0: kept(1)}}
    one, same = lines(scores)["rival", "auc"], lines(scores)["rival", "auc"]
    assert (one.low, one.high, one.p_value) == (same.low, same.high, same.p_value)
    other = lines(scores, Statistics(resamples=200, seed=1))["rival", "auc"]
    assert (one.low, one.high) != (other.low, other.high)
    assert one.difference == other.difference


def ranked(seed: int, *, best: int, clicks: bool = False) -> KeptScores:
    """80 users with two held-out items each, none better than ``best``; 1 in 4 does not count."""
    random = np.random.default_rng(seed)
    better = random.integers(best, 40, (80, 2, 1))
    counts = np.arange(160).reshape(80, 2) % 4 > 0
    candidates = np.full((80, 2), 90)
    listed = np.zeros((80, 2, 10), dtype=np.int32)
    ranks = Ranks(better, better * 0, candidates, counts.copy(), counts.copy(), counts, listed)
    scores = kept(seed)
    return KeptScores(scores.user_keys, scores.logits if clicks else None, scores.labels, ranks)


def test_ranks_are_compared_over_the_answers_that_count() -> None:
    ours, theirs = ranked(0, best=0), ranked(1, best=8)
    found = lines({"mrff": {0: ours}, "rival": {0: theirs}})
    assert {metric for _, metric in found} == {"hr10", "ndcg10"}
    hits = [
        ((kept.ranks.better[..., 0] < 10) & kept.ranks.counts).sum() / kept.ranks.counts.sum()
        for kept in (theirs, ours)
    ]
    line = found["rival", "hr10"]
    assert line.difference == pytest.approx(hits[0] - hits[1])
    assert line.low < line.difference < line.high
    gains = [
        (np.where(r.better < 10, 1 / np.log2(2 + r.better), 0)[..., 0] * r.counts).sum() / 120
        for r in (theirs.ranks, ours.ranks)
    ]
    assert found["rival", "ndcg10"].difference == pytest.approx(gains[0] - gains[1])


def test_a_mean_over_targets_weighs_users_by_what_counts() -> None:
    """Users with 1 of 2, 0 of 0 and 1 of 1: 2/3; the first twice: 3/5; the second: nan."""
    mean = mean_over_users(np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 1.0]))
    assert mean([[1, 1, 1], [2, 0, 1], [0, 3, 0]]) == pytest.approx(
        [2 / 3, 3 / 5, math.nan], nan_ok=True
    )


def test_runs_that_measure_other_things_or_rank_among_others_are_no_comparison() -> None:
    other = ranked(1, best=0)
    among_fewer = replace(other, ranks=replace(other.ranks, candidates=np.full((80, 2), 89)))
    found = lines(
        {
            "mrff": {0: ranked(0, best=0, clicks=True)},
            "clicks": {0: kept(3)},
            "ranks": {0: other},
            "fewer": {0: among_fewer},
        }
    )
    assert found["clicks", "ndcg10"].note == "clicks does not measure NDCG@10"
    assert math.isfinite(found["clicks", "auc"].p_value)
    assert found["ranks", "auc"].note == "ranks does not measure AUC"
    assert math.isfinite(found["ranks", "ndcg10"].p_value)
    assert found["fewer", "hr10"].note == "tested on other items than the reference"
    only = lines({"mrff": {0: ranked(0, best=0)}, "clicks": {0: kept(3)}})
    assert only["clicks", "hr10"].note == "measures nothing that the reference measures"

"""From kept scores to the lines of a comparison: who is compared with whom, and when not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from client_app.kept_scores import KeptScores
from mrff.experiments.comparison.bootstrap import RankedScores
from mrff.experiments.comparison.plan import Statistics
from mrff.experiments.comparison.results import Comparison, compare_scores

FAST = Statistics(resamples=200)


def kept(seed: int, *, users: int = 80, skill: float = 1.0, turned: bool = False) -> KeptScores:
    """Scores whose labels are the same for every seed; ``turned`` lists the users backwards."""
    labels = np.random.default_rng(0).integers(0, 2, (users, 2)).astype(np.uint8)
    noise = np.random.default_rng(seed + 1).normal(size=(users, 2))
    scores = KeptScores(np.arange(users, dtype=np.uint64) * 3 + 1, labels * skill + noise, labels)
    if turned:
        return KeptScores(*(column[::-1] for column in vars(scores).values()))
    return scores


def lines(
    scores: dict[str, dict[int | None, KeptScores]], statistics: Statistics = FAST
) -> dict[tuple[str, str], Comparison]:
    others = [name for name in scores if name != "mrff"]
    found = compare_scores("some", "mrff", others, scores, statistics)
    return {(line.method, line.metric): line for line in found}


def auc(scores: KeptScores, users: slice = slice(None)) -> float:
    logits, labels = scores.logits[users], scores.labels[users]
    return float(RankedScores(logits, labels).auc([[1.0] * len(logits)])[0])


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

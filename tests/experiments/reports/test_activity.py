"""Users by activity, calibration and the sentence on top: numbers worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client_app.kept_scores import KeptScores
from mrff.data.dataset import load_dataset
from mrff.data.floors import exact_auc, predict_by_rates
from mrff.experiments.comparison.bootstrap import Difference
from mrff.experiments.comparison.measures import TESTED
from mrff.experiments.reports.activity import Fare, People, classes, everybody
from mrff.experiments.reports.calibration import calibration_figure, wilson
from mrff.experiments.reports.group_effect import Effect
from mrff.experiments.reports.groups import group_picture
from mrff.experiments.reports.overview import verdict
from mrff.metrics.metric import Ranks
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import find_run, load_best
from tests.support.reports import report
from tests.support.trained import RUN


def people(rows: list[int], logits: list[float], labels: list[int]) -> People:
    keys = np.arange(len(rows), dtype=np.uint64)

    def scores(values: np.ndarray) -> KeptScores:
        return KeptScores(keys, values[:, None], np.array(labels, dtype=np.uint8)[:, None])

    own = np.array(logits)
    return People(np.arange(len(rows)), np.array(rows), scores(own), {"coin": scores(own * 0)})


def test_classes_are_fifths_of_users_by_rows_and_their_measures_are_their_own() -> None:
    """Ten users: of each two one has label 1; the heaviest two are scored the wrong way round."""
    rows = [3, 3, 5, 6, 10, 12, 40, 41, 90, 700]
    logits = [0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1]
    found = classes(people(rows, logits, [0, 1] * 5))
    assert [one.name for one in found] == ["cold", "light", "middle", "busy", "heavy"]
    assert [one.rows for one in found] == [(3, 3), (5, 6), (10, 12), (40, 41), (90, 700)]
    assert [one.users for one in found] == [2] * 5
    assert [one.fares["auc"].own for one in found] == [1.0] * 4 + [0.0]
    assert [one.fares["auc"].others["coin"] for one in found] == [0.5] * 5


def test_users_with_the_same_number_of_rows_are_in_one_class() -> None:
    found = classes(people([4] * 9 + [50], [0.0] * 10, [0, 1] * 5))
    assert [(one.name, one.rows, one.users) for one in found] == [
        ("cold", (4, 4), 9),
        ("heavy", (50, 50), 1),
    ]


def test_an_interval_holds_the_difference_and_a_clear_one_does_not_touch_zero() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    logits = (2.0 * labels + random.normal(size=400)).tolist()
    gain = everybody(people([5] * 400, logits, labels.tolist()))["auc"].gains["coin"]
    assert 0.2 < gain.low < gain.difference < gain.high < 0.5


def test_what_an_expert_brings_is_told_of_its_own_users() -> None:
    """Own experts rank the first twenty users right, and the others as one for everybody does."""
    labels = [0, 1] * 20
    own = people([5] * 40, [*([-1.0, 1.0] * 10), *([0.0] * 20)], labels).scores
    shared = people([5] * 40, [0.0] * 40, labels).scores
    sides = TESTED["auc"].of(own), TESTED["auc"].of(shared)
    assert sides[0] is not None
    assert sides[1] is not None
    effect = Effect("AUC", 0.75, Difference(), (sides[0], sides[1]))
    first = np.arange(40) < 20
    assert effect.within(first).difference == pytest.approx(0.5)
    assert effect.within(~first).difference == pytest.approx(0.0)


def test_hits_are_those_of_the_answers_that_count() -> None:
    ranks = Ranks.nothing_yet(4, 1)
    ranks.better[:, 0, 0] = [0, 9, 10, 50]  # ranks 1, 10, 11, 51
    ranks.counts[0] = False
    scores = KeptScores(np.arange(4, dtype=np.uint64), None, np.ones((4, 1), np.uint8), ranks)
    fares = everybody(People(np.arange(4), np.array([5, 6, 7, 8]), scores, {}))
    assert fares.keys() == {"hr10"}
    assert fares["hr10"].own == pytest.approx(1 / 3)


def test_calibration_counts_tenths_with_intervals() -> None:
    labels = np.repeat([0, 1], 50)
    logits = np.where(labels > 0, 3.0, -3.0)[:, None]
    figure = calibration_figure(
        KeptScores(np.arange(100, dtype=np.uint64), logits, labels[:, None])
    )
    assert figure is not None
    line = figure.data[1]
    assert list(line.y) == [0.0] * 5 + [1.0] * 5
    np.testing.assert_allclose(line.x[0], 1 / (1 + np.exp(3.0)))
    assert list(line.customdata) == [10] * 10
    low, high = wilson(0.0, 10)  # Wilson 1927: from 0 to z^2 / (n + z^2)
    assert low == pytest.approx(0.0)
    assert high == pytest.approx(1.96**2 / (10 + 1.96**2))
    assert calibration_figure(KeptScores(np.arange(1), None, np.ones((1, 1)))) is None


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.05, "beats"), (-0.05, -0.01, "loses to"), (-0.01, 0.02, "cannot be told from")],
)
def test_the_sentence_says_what_the_interval_allows(low: float, high: float, says: str) -> None:
    test = {"targets": 943, "auc": 0.80}
    gain = Difference(0.02, low, high, 0.5)
    fare = Fare(0.8, 0.7, 0.9, {"user rate": 0.7, "user x item rate": 0.78},
                {"user x item rate": gain})  # fmt: skip
    said = verdict(test, {"user rate": 0.7, "user x item rate": 0.78}, {"auc": fare})
    assert f"{says} the best of 2 simpler methods (user x item rate, 0.7800): +0.0200" in said
    assert said.startswith("On 943 held-out rows, AUC 0.8000")


def test_without_scores_the_sentence_claims_no_more_than_the_difference() -> None:
    test = {"targets": 9, "hr10": 0.1, "parts": {"popularity": {"hr10": 0.2}, "network": {}}}
    said = verdict(test, {}, {})
    assert "HR@10 is 0.1000, not above the best of 1 simpler methods (popularity, 0.2000)" in said
    assert "beats" not in said
    assert verdict(None, {}, {}) == "Nothing was tested yet."
    assert "nothing to compare it with" in verdict({"targets": 9, "auc": 0.7}, {}, {})


def test_a_run_tells_the_same_users_as_its_test_beside_the_same_floors(
    trained_home: Path, small_data: Path, tmp_path: Path
) -> None:
    best = load_best(find_run(str(trained_home / "runs" / RUN)))
    found = group_picture(NodesAtHand(best)).people
    assert found is not None
    whole = everybody(found)["auc"]
    summary = json.loads((trained_home / "runs" / RUN / "summary.json").read_text())
    assert whole.own == pytest.approx(summary["test"]["auc"], abs=2e-3)  # of bins of scores
    rates = predict_by_rates(load_dataset(small_data), holdout=1, part="test")
    expected = exact_auc(rates.labels.ravel(), rates.logits["user_item"].ravel())
    assert whole.others["user x item rate"] == pytest.approx(expected)
    sizes = np.diff(load_dataset(small_data).offsets)
    np.testing.assert_array_equal(found.rows, sizes[found.users] - 1)
    page = report(str(trained_home / "runs" / RUN), tmp_path / "r.html")
    assert page.count("<td>cold</td>") == 1
    assert "95 % interval" in page[page.index('class="verdict"') :][:400]

"""Trees: inputs counted by hand, no label among its own inputs, chance on shuffled labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mrff.config import RunConfig
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import SMOOTHING, floor_of, floors, predict_by_rates, split_rows
from mrff.data.prepare import prepare
from mrff.experiments.central.boosted_trees import EVERY, predict_by_trees, row_inputs
from tests.support.small_data import small_dataset
from tests.support.small_folders import write

HOLDOUT_5 = RunConfig.from_flat({"data.holdout": 5})


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("trees") / "synthetic"
    prepare("synthetic", out=folder, options={"users": 300, "items": 60, "events_per_user": 30})
    return load_dataset(folder)


def logit(positive: float, count: float, overall: float) -> float:
    rate = (positive + SMOOTHING * overall) / (count + SMOOTHING)
    return float(np.log(rate / (1 - rate)))


def test_inputs_by_hand(tmp_path: Path) -> None:
    """Users 0 and 1, holdout 1; the last two rows of each are held out."""
    write(tmp_path, [[(1, 1), (2, 0), (1, 1), (1, 0), (2, 1)], [(1, 0), (3, 1), (2, 1), (1, 1)]])
    dataset = load_dataset(tmp_path)
    split = split_rows(dataset, holdout=1, part="valid")
    assert split.train.tolist() == [True] * 3 + [False] * 2 + [True] * 2 + [False] * 2
    overall = (3 + 0.5) / (5 + 1)
    inputs = row_inputs(dataset, split, history=True)
    # The user's earlier rows: rate and count, mean of the latest ten, the last one.
    expected = [logit(0, 0, overall), logit(1, 1, overall), logit(1, 2, overall)]
    np.testing.assert_allclose(inputs[:3, 0], expected)
    assert inputs[:5, 1].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(inputs[[0, 5], 2]).all()
    np.testing.assert_allclose(inputs[1:5, 2], [1, 1 / 2, 2 / 3, 2 / 4])
    assert inputs[1:5, 3].tolist() == [1, 0, 1, 0]
    assert inputs[6:, 3].tolist() == [0, 1, 1]
    # Item 1 was liked by user 0 twice of twice in training, and not by user 1, once of once.
    rate = inputs[:, 4]
    np.testing.assert_allclose(rate[[0, 2]], logit(0, 1, overall))  # what user 1 thinks
    np.testing.assert_allclose(rate[5], logit(2, 2, overall))  # what user 0 thinks
    np.testing.assert_allclose(rate[[3, 8]], logit(2, 3, overall))  # held out: everybody


@pytest.mark.parametrize("history", [False, True])
def test_neither_its_own_label_nor_a_later_one_is_among_a_rows_inputs(history: bool) -> None:
    """Two rows of a user swap labels: the rows until the first of them look as before."""
    dataset = small_dataset((9, 4, 14, 6, 9, 12), seed=1)
    split = split_rows(dataset, holdout=1, part="valid")
    before = row_inputs(dataset, split, history=history)
    swaps = 0
    for first, second in combinations(range(len(dataset.labels)), 2):
        same_user = split.owner[first] == split.owner[second]
        both_train = split.train[first] and split.train[second]
        if not (same_user and both_train) or dataset.labels[first] == dataset.labels[second]:
            continue
        labels = dataset.labels.copy()
        labels[[first, second]] = labels[[second, first]]
        after = row_inputs(replace(dataset, labels=labels), split, history=history)
        mine = split.owner == split.owner[first]
        until = mine & (np.arange(len(labels)) <= first)
        np.testing.assert_array_equal(after[until], before[until])
        assert not np.array_equal(after[first + 1, 0], before[first + 1, 0])
        swaps += 1
    assert swaps > 20


@pytest.mark.parametrize("history", [False, True])
def test_a_held_out_label_is_history_of_the_users_next_rows_only(history: bool) -> None:
    dataset = small_dataset((9, 7, 14, 6, 9, 12), seed=1)
    split = split_rows(dataset, holdout=2, part="valid")
    before = row_inputs(dataset, split, history=history)
    for row in np.flatnonzero(split.held_out):
        labels = dataset.labels.copy()
        labels[row] = 1 - labels[row]
        after = row_inputs(replace(dataset, labels=labels), split, history=history)
        later = (split.owner == split.owner[row]) & (np.arange(len(labels)) > row)
        np.testing.assert_array_equal(after[~later], before[~later])
        assert (after[later][:, 0] != before[later][:, 0]).all()
        assert later.any()


def test_shuffled_labels_cannot_be_predicted(population: Dataset) -> None:
    shuffled = np.random.default_rng(0).permutation(population.labels)
    random = replace(population, labels=shuffled)
    found = predict_by_trees(random, HOLDOUT_5, history=True)
    assert abs(floor_of(found.labels, found.logits).auc - 0.5) < 0.05


def test_trees_beat_the_rates_they_read(population: Dataset) -> None:
    seen: list[int] = []
    found = predict_by_trees(
        population, HOLDOUT_5, lambda trees, measures: seen.append(trees), history=True
    )
    assert found.best in seen
    assert all(trees % EVERY == 0 for trees in seen)
    assert found.labels.shape == found.logits.shape == (300, 5)
    rates = predict_by_rates(population, holdout=5, part="test")
    assert found.labels.tolist() == rates.labels.tolist()
    assert found.users.tolist() == rates.users.tolist()
    measured = floor_of(found.labels, found.logits)
    assert measured.auc > floors(population, holdout=5, part="test").user.auc + 0.02
    again = predict_by_trees(population, HOLDOUT_5, history=True)
    np.testing.assert_array_equal(again.logits, found.logits)


def test_users_shorter_than_the_split_are_refused(population: Dataset) -> None:
    with pytest.raises(DataError, match="needs; use a smaller holdout"):
        predict_by_trees(population, RunConfig.from_flat({"data.holdout": 50}), history=False)

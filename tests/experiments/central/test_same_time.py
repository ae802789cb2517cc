"""Central rivals where labels of the same time are unknown: no flipped label among their inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrff.data.dataset import Dataset
from mrff.data.floors import split_rows
from mrff.experiments.central.boosted_trees import row_inputs
from mrff.experiments.central.ranking import Candidate, FullRanking
from tests.support.small_data import at_times, small_config, small_dataset

SIZES = (9, 7, 14, 6, 9, 12)


def waiting(seed: int) -> Dataset:
    """Small users who meet one to three items at a time."""
    random = np.random.default_rng(seed)
    return at_times(small_dataset(SIZES, seed=seed), np.cumsum(random.integers(0, 2, sum(SIZES))))


def test_a_trees_inputs_by_hand() -> None:
    """Rows at 1, 1, 2, 2, 3: liked, not, liked, liked, not."""
    dataset = at_times(small_dataset((5,)), [1, 1, 2, 2, 3])
    dataset = replace(
        dataset,
        labels=np.array([1, 0, 1, 1, 0], dtype=np.int8),
        items=np.array([3, 3, 3, 5, 3], dtype=np.int32),
    )
    inputs = row_inputs(dataset, split_rows(dataset, holdout=1, part="valid"), history=True)
    assert inputs[:, 1].tolist() == [0, 0, 2, 2, 4]  # rows whose label is known
    np.testing.assert_array_equal(inputs[:, 2], [np.nan, np.nan, 1 / 2, 1 / 2, 3 / 4])
    np.testing.assert_array_equal(inputs[:, 3], [np.nan, np.nan, 0, 0, 1])  # the last of them


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_label_is_no_input_of_a_row_of_its_time_or_of_an_earlier_one(
    history: bool, seed: int
) -> None:
    dataset = waiting(seed)
    assert dataset.times is not None
    assert dataset.same_time.sum() > 10
    split = split_rows(dataset, holdout=2, part="valid")
    before = row_inputs(dataset, split, history=history)
    for row in np.flatnonzero(~split.train):
        labels = dataset.labels.copy()
        labels[row] = 1 - labels[row]
        after = row_inputs(replace(dataset, labels=labels), split, history=history)
        later = (split.owner == split.owner[row]) & (dataset.times > dataset.times[row])
        np.testing.assert_array_equal(after[~later], before[~later])
        assert (after[later][:, 0] != before[later][:, 0]).all()


def test_histories_of_liked_items_have_none_of_the_time_of_the_answer() -> None:
    """Rows at 1, 2, 2, 3, 3, 3, all liked: before the last one, the first three are known."""
    times = [1, 2, 2, 3, 3, 3]
    dataset = replace(
        at_times(small_dataset((6,)), times),
        items=np.array([1, 2, 3, 4, 5, 6], dtype=np.int32),
        labels=np.ones(6, dtype=np.int8),
    )
    config = small_config(objective="next", targets="liked")
    liked, every = (FullRanking(dataset, config, read=read) for read in ("liked", "all"))
    assert liked.training.sequences.items.tolist() == [0, 1, 2]  # rows 0, 1, 2; row 3 is at 3
    assert every.training.sequences.items.tolist() == [0, 1, 2, 3]
    for ranking, known in ((liked, 3), (every, 4)):
        seen: list[int] = []

        def count(users: np.ndarray, history: object, seen: list[int] = seen) -> np.ndarray:
            seen.append(history.sum())  # type: ignore[attr-defined]
            return np.zeros(history.shape)  # type: ignore[attr-defined]

        ranking.scores(Candidate("none", count), np.array([0]), "test")
        assert seen == [known]

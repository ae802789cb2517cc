"""Local training where times are read: unknown labels of the same time, inputs of the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mrff.data.dataset import Dataset
from tests.support.small_data import at_times, small_config, small_dataset
from tests.support.small_training import (
    LEARNERS,
    assert_same,
    cohort_of,
    model_of,
    network_of,
    next_round,
    train,
)

SIZES = (9, 4, 14, 3, 25)
USERS = np.arange(len(SIZES))


def waiting() -> Dataset:
    """Three rows at a time; user 3 met all of theirs at once, so that none of them teaches."""
    times = [place // 3 for size in SIZES for place in range(size)]
    return at_times(small_dataset(SIZES), times)


@pytest.mark.parametrize("weighting", ["uniform", "targets"])
@pytest.mark.parametrize("objective", ["click", "both"])
@pytest.mark.usefixtures("double_precision")
def test_both_learners_agree_also_on_who_has_nothing_to_learn(
    weighting: str, objective: str
) -> None:
    dataset = waiting()
    config = small_config(
        same_time="unknown", user_weighting=weighting, objective=objective, user_factors=True
    )
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, USERS)
    for _ in range(2):
        oracle = train(LEARNERS["serial"](network, config), config, model, cohort)
        together = train(LEARNERS["cohort"](network, config), config, model, cohort)
        assert_same(together, oracle)
        assert oracle.kept.all()
        model, cohort = next_round(model, cohort, oracle)


def scores_after_a_round(dataset: Dataset, **settings: Any) -> np.ndarray:
    """Logits of the test rows (U, 1) after everybody trained, with their own parameters moved."""
    config = small_config(private_learning_rate=0.5, user_factors=True, **settings)
    network = network_of(config, dataset)
    learner, cohort = LEARNERS["cohort"](network, config), cohort_of(dataset, network, USERS)
    trained = train(learner, config, model_of(network), cohort)
    model, cohort = next_round(model_of(network), cohort, trained)
    return learner.score(model, cohort, "test").logits


@pytest.mark.parametrize(("place", "is_known"), [(6, False), (5, True)])
def test_no_model_learns_a_label_of_its_test_rows_time(place: int, is_known: bool) -> None:
    """User 0 has rows 6, 7, 8 at one time: training, validation and test."""
    dataset = waiting()
    labels = dataset.labels.copy()
    labels[place] = 1 - labels[place]
    flipped = replace(dataset, labels=labels)
    one, other = (scores_after_a_round(d, same_time="unknown") for d in (dataset, flipped))
    assert np.array_equal(one, other) != is_known
    usual = [
        scores_after_a_round(replace(d, times=None, knows_same_time=True))
        for d in (dataset, flipped)
    ]
    assert not np.array_equal(*usual)  # what the usual protocol lets a model learn


def test_a_user_with_nothing_to_learn_weighs_one_and_moves_nothing_of_their_own() -> None:
    dataset, config = waiting(), small_config(same_time="unknown", user_weighting="targets")
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, np.array([3]))
    trained = train(LEARNERS["cohort"](network, config), config, model_of(network), cohort)
    assert trained.sums.number("weight") == 1.0
    for name, rows in trained.private.items():
        assert torch.equal(rows, torch.as_tensor(cohort.private[name]))


@pytest.mark.parametrize("private", ["user", "head"])
@pytest.mark.usefixtures("double_precision")
def test_both_learners_read_the_same_clock(private: str) -> None:
    dataset = at_times(small_dataset((9, 4, 14)), np.arange(27) ** 5 * 10**9)
    config = small_config(time_inputs=True, same_time="unknown", private_parameters=private)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, np.arange(3))
    serial, together = (
        train(LEARNERS[name](network, config), config, model, cohort) for name in LEARNERS
    )
    assert_same(together, serial)


@pytest.mark.parametrize("objective", ["next", "both"])
@pytest.mark.usefixtures("double_precision")
def test_both_learners_learn_the_same_gaps_of_the_history(objective: str) -> None:
    clock = (10**9 + np.cumsum(np.arange(27) ** 4)) * 10**9
    dataset = at_times(small_dataset((9, 4, 14)), clock)
    dataset = replace(dataset, knows_same_time=True)
    config = small_config(history_times=True, objective=objective)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, np.arange(3))
    serial, together = (
        train(LEARNERS[name](network, config), config, model, cohort) for name in LEARNERS
    )
    assert_same(together, serial)
    assert np.abs(serial.sums.updates["history_times.table.weight"][1:]).max() > 0
    assert not serial.sums.updates["history_times.table.weight"][0].any()

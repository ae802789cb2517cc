"""What users of rivals that factorise learn from: no held-out item is spared as a negative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client_app.learners.negatives import Met, samples_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from tests.support.small_data import NUM_ITEMS, small_config, small_dataset

ITEMS = [[3, 1, 4, 5, 9, 2], [6, 7, 7, 6, 8, 11, 12], [*range(1, 13), 1, 2]]


def dataset_of(histories: list[list[int]]) -> Dataset:
    """Users with these items, the last two of each held out."""
    sizes = tuple(len(history) for history in histories)
    items = np.concatenate(histories).astype(np.int32)
    return replace(small_dataset(sizes), items=items)


def config(**changes: bool | int | float | str) -> RunConfig:
    return small_config(objective="next", algorithm="fedmf", **changes)


def drawn(met: Met, rounds: int, user: int = 0) -> np.ndarray:
    """(items + 1,) how often each item was a negative of a user."""
    dataset, counts = dataset_of(ITEMS), np.zeros(NUM_ITEMS + 1, dtype=int)
    for number in range(rounds):
        samples = samples_of(dataset, np.array([user]), config(negatives=8), number, met)
        assert (samples.labels[samples.real] == 0).sum() == 8 * (samples.labels == 1).sum()
        counts += np.bincount(samples.items[samples.labels < samples.real], minlength=13)
    return counts


def test_a_held_out_item_is_a_negative_as_often_as_any_other() -> None:
    counts = drawn("training", rounds=500)
    assert counts[[0, 3, 1, 4, 5]].sum() == 0  # padding, and what the user trains on
    others = counts[[2, 6, 7, 8, 9, 10, 11, 12]]  # 9 is the validation's item, 2 the test's
    expected = 500 * 4 * 8 / len(others)
    assert np.abs(others - expected).max() < 5 * np.sqrt(expected)


def test_what_papers_do_spares_exactly_the_held_out_items() -> None:
    counts = drawn("all", rounds=500)
    assert counts[[0, 3, 1, 4, 5, 9, 2]].sum() == 0
    others = counts[[6, 7, 8, 10, 11, 12]]
    expected = 500 * 4 * 8 / len(others)
    assert np.abs(others - expected).max() < 5 * np.sqrt(expected)


def test_items_met_twice_are_left_out_once() -> None:
    counts = drawn("training", rounds=200, user=1)  # trains on 6, 7, 7, 6, 8
    assert counts[[6, 7, 8]].sum() == 0
    assert (np.delete(counts, [0, 6, 7, 8]) > 0).all()


def test_a_user_who_has_met_every_item_has_no_negatives() -> None:
    samples = samples_of(dataset_of(ITEMS), np.array([2, 0]), config(), 1)
    assert samples.real.sum(1).tolist() == [12, 4 + 4 * 4]
    assert sorted(samples.items[0, samples.real[0]]) == list(range(1, 13))


def test_disliked_items_are_neither_where_liked_ones_are_predicted() -> None:
    dataset = replace(dataset_of(ITEMS[:1]), labels=np.array([1, 0, 1, 0, 1, 1], dtype=np.int8))
    for number in range(50):
        samples = samples_of(dataset, np.array([0]), config(targets="liked"), number)
        assert sorted(samples.items[samples.labels == 1]) == [3, 4]
        assert not set(samples.items[samples.labels < samples.real]) & {3, 1, 4, 5}


@pytest.mark.parametrize("users", [[0], [2, 1, 0], [1, 0]])
def test_company_changes_nothing(users: list[int]) -> None:
    dataset = dataset_of(ITEMS)
    alone = samples_of(dataset, np.array([0]), config(), 3).shuffled(dataset.user_keys[[0]])
    at = users.index(0)
    whole = samples_of(dataset, np.array(users), config(), 3).shuffled(dataset.user_keys[users])
    assert whole.items[at, whole.real[at]].tolist() == alone.items[0].tolist()
    assert whole.labels[at, whole.real[at]].tolist() == alone.labels[0].tolist()


def test_an_order_is_a_permutation_and_differs_by_key() -> None:
    dataset = dataset_of(ITEMS)
    samples = samples_of(dataset, np.arange(3), config(), 1)
    one, other = (samples.shuffled(dataset.user_keys + np.uint64(n)) for n in (0, 1))
    assert one.real.tolist() == samples.real.tolist()
    assert np.sort(one.items, 1).tolist() == np.sort(samples.items, 1).tolist()
    assert one.items.tolist() != other.items.tolist()


def test_a_user_without_a_liked_item_has_nothing_to_learn() -> None:
    dataset = replace(dataset_of(ITEMS[:1]), labels=np.zeros(6, dtype=np.int8))
    samples = samples_of(dataset, np.array([0]), config(targets="liked"), 1)
    assert samples.items.shape == (1, 0)

"""The split of impressions: what is held out was liked, and nothing of the history is invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.data.dataset import Dataset, take_users
from mrff.data.floors import split_rows
from mrff.data.targets import ending_with_targets
from mrff.data.windows import eligible_users, train_sizes, validation_users
from tests.support.small_data import small_dataset


def with_labels(*labels: str) -> Dataset:
    """Users whose rows were liked (``+``) or not (``-``); items tell the rows apart."""
    dataset = small_dataset(tuple(map(len, labels)))
    liked = np.array([mark == "+" for mark in "".join(labels)], dtype=np.int8)
    return replace(dataset, labels=liked, items=np.arange(1, len(liked) + 1, dtype=np.int32))


def test_worked_by_hand() -> None:
    """Rows 1 to 8: the last two likes are held out, what was shown between and after them goes."""
    found = ending_with_targets(with_labels("-+--+-+-", "+-+", "----", "-+--"), holdout=1)
    assert found.items.tolist() == [1, 2, 3, 4, 5, 7, 9, 11, 16, 17]
    assert found.labels.tolist() == [0, 1, 0, 0, 1, 1, 1, 1, 0, 1]
    assert found.offsets.tolist() == [0, 6, 8, 8, 10]
    assert eligible_users(found, holdout=1).tolist() == [0]  # the second has nothing to learn from
    everybody = np.arange(4)  # the fourth is too short, and trains on what leads to their like
    assert train_sizes(found, everybody, holdout=1).tolist() == [4, 2, 0, 2]


def test_one_with_many_rows_and_too_few_likes_trains_on_all_and_is_never_tested() -> None:
    """Five rows would be enough for a holdout of 1, one like is not."""
    found = ending_with_targets(with_labels("---+-", "++-++"), holdout=1)
    assert eligible_users(found, holdout=1).tolist() == [1]
    assert train_sizes(found, np.arange(2), holdout=1).tolist() == [4, 3]
    turned = take_users(found, np.array([1, 0]))  # it goes with its user
    assert eligible_users(turned, holdout=1).tolist() == [0]
    assert split_rows(found, holdout=1, part="test").train.tolist() == [True] * 7 + [False] * 2


def test_in_final_training_only_those_held_out_end_with_a_like_of_their_own() -> None:
    """The first has a key below the share, the second has not: their rows all train."""
    before = with_labels("+-+-+-", "+-+-+-")
    keys = np.array([1 << 60, 1 << 63], dtype=np.uint64)
    found = ending_with_targets(replace(before, user_keys=keys), holdout=1, share=0.1)
    assert found.items.tolist() == [1, 2, 3, 5, 7, 8, 9, 10, 11]
    assert validation_users(found, 0.1).tolist() == [0]


@given(st.lists(st.text("+-", min_size=1, max_size=14), min_size=1, max_size=5), st.integers(1, 3))
@settings(deadline=None)
def test_what_is_held_out_was_liked_and_training_keeps_every_row(
    labels: list[str], holdout: int
) -> None:
    before = with_labels(*labels)
    after = ending_with_targets(before, holdout=holdout)
    for user, marks in enumerate(labels):
        rows = slice(after.offsets[user], after.offsets[user + 1])
        mine = after.items[rows].tolist()
        whole = before.items[before.offsets[user] : before.offsets[user + 1]].tolist()
        likes = [item for item, mark in zip(whole, marks, strict=True) if mark == "+"]
        if len(likes) < 2 * holdout:
            liked = "".join(marks).rfind("+")  # rows up to the last like, if there is any
            assert mine == whole[: liked + 1]
            assert not len(np.intersect1d(eligible_users(after, holdout=holdout), [user]))
            continue
        held_out = likes[-2 * holdout :]
        assert mine[-2 * holdout :] == held_out
        assert mine[: -2 * holdout] == whole[: whole.index(held_out[0])]


def test_users_catalogue_and_seconds_stay() -> None:
    before = with_labels("-+--+-+-", "----")
    after = ending_with_targets(before, holdout=1)
    assert after.num_users == 2
    np.testing.assert_array_equal(after.user_keys, before.user_keys)
    assert after.same_time.tolist() == before.same_time[[0, 1, 2, 3, 4, 6]].tolist()
    assert after.schema is before.schema


@pytest.mark.parametrize("nodes", [1, 3])
def test_no_like_at_all_leaves_nobody(nodes: int) -> None:
    after = ending_with_targets(with_labels(*["-" * 5] * nodes), holdout=1)
    assert len(eligible_users(after, holdout=1)) == 0

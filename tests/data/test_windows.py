"""Splits and windows: small ones by hand, the rules as properties."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.data.dataset import Dataset, load_dataset
from mrff.data.errors import DataError
from mrff.data.schema import Schema
from mrff.data.windows import (
    Records,
    eligible_users,
    evaluation_records,
    is_chosen,
    train_records,
    train_sizes,
    training_users,
)
from tests.support.small_folders import write


def dataset_of(*histories: list[tuple[int, int]]) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), list(histories))
        return load_dataset(Path(folder))


ONE = dataset_of([(1, 1), (2, 0), (3, 1), (4, 1), (1, 0), (2, 1), (3, 0)])  # 7 interactions
TWO = dataset_of(
    [(1, 1), (2, 0), (3, 1), (4, 1), (1, 0), (2, 1), (3, 0)],
    [(4, 0), (3, 1), (2, 1), (1, 0)],
    [(1, 1), (1, 1)],
)


def test_one_window_is_the_latest() -> None:
    """Training part 1 2 3 4 1 (then 2 validates, 3 tests); the last three targets: 3 4 1."""
    records = train_records(ONE, np.array([0]), length=3, max_windows=1, holdout=1)
    assert records.items.tolist() == [[[0, 3, 4]]]
    assert records.feedback.tolist() == [[[0, 2, 2]]]
    assert records.targets.tolist() == [[[3, 4, 1]]]
    assert records.labels.tolist() == [[[1.0, 1.0, 0.0]]]
    assert records.mask.tolist() == [[[True, True, True]]]
    assert records.real.tolist() == [[[True, True, True]]]


def test_all_windows_are_disjoint_and_start_anew() -> None:
    records = train_records(ONE, np.array([0]), length=3, max_windows=0, holdout=1)
    assert records.items.tolist() == [[[0, 1, 0], [0, 3, 4]]]
    assert records.feedback.tolist() == [[[0, 2, 0], [0, 2, 2]]]
    assert records.targets.tolist() == [[[1, 2, 0], [3, 4, 1]]]
    assert records.labels.tolist() == [[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]]
    assert records.real.tolist() == [[[True, True, False], [True, True, True]]]


def test_shorter_users_are_padded_right() -> None:
    users = eligible_users(TWO, holdout=1)
    assert users.tolist() == [0, 1]
    records = train_records(TWO, users, length=4, max_windows=0, holdout=1)
    assert records.targets.tolist() == [
        [[1, 0, 0, 0], [2, 3, 4, 1]],
        [[4, 3, 0, 0], [0, 0, 0, 0]],
    ]
    assert records.mask.tolist() == (records.targets > 0).tolist()


def test_width_is_what_the_users_need() -> None:
    records = train_records(TWO, np.array([1]), length=65, max_windows=0, holdout=1)
    assert records.targets.shape == (1, 1, 2)


def test_evaluation_windows() -> None:
    test = evaluation_records(ONE, np.array([0]), length=4, holdout=2, part="test")
    assert test.items.tolist() == [[[0, 4, 1, 2]]]
    assert test.feedback.tolist() == [[[0, 2, 1, 2]]]
    assert test.targets.tolist() == [[[4, 1, 2, 3]]]
    assert test.labels.tolist() == [[[1.0, 0.0, 1.0, 0.0]]]
    assert test.mask.tolist() == [[[False, False, True, True]]]
    assert test.real.tolist() == [[[True, True, True, True]]]
    valid = evaluation_records(ONE, np.array([0]), length=4, holdout=2, part="valid")
    assert valid.targets.tolist() == [[[2, 3, 4, 1]]]
    assert valid.mask.tolist() == [[[False, False, True, True]]]


def test_evaluation_of_users_of_different_lengths() -> None:
    records = evaluation_records(TWO, np.array([0, 1]), length=65, holdout=1, part="test")
    assert records.targets[1, 0].tolist() == [4, 3, 2, 1, 0, 0, 0]
    assert records.mask[1, 0].tolist() == [False, False, False, True, False, False, False]
    assert records.mask.sum() == 2


def test_dtypes() -> None:
    records = train_records(ONE, np.array([0]), length=3, max_windows=1, holdout=1)
    assert records.times is None  # nobody reads them
    names = Records.__dataclass_fields__.keys() - {"times"}
    kinds = {name: getattr(records, name).dtype.name for name in names}
    assert kinds == {
        "items": "int64",
        "feedback": "int64",
        "targets": "int64",
        "labels": "float32",
        "mask": "bool",
        "real": "bool",
        "first": "int64",
    }


def test_no_users() -> None:
    none = np.array([], dtype=np.int64)
    assert train_records(ONE, none, length=3, max_windows=1, holdout=1).targets.shape == (0, 0, 0)
    shape = evaluation_records(ONE, none, length=3, holdout=1, part="test").targets.shape
    assert shape == (0, 1, 0)


def test_users_shorter_than_the_split_train_on_all_they_have_and_are_not_tested() -> None:
    assert training_users(TWO).tolist() == [0, 1, 2]
    assert train_sizes(TWO, np.array([0, 1, 2]), holdout=1).tolist() == [5, 2, 2]
    assert train_sizes(TWO, np.array([0, 1, 2]), holdout=2).tolist() == [3, 4, 2]
    records = train_records(TWO, np.array([0, 2]), length=3, max_windows=1, holdout=1)
    assert records.targets[1].tolist() == [[1, 1, 0]]
    assert records.items[1].tolist() == [[0, 1, 0]]
    with pytest.raises(DataError, match=r"user 2 has 2 interactions, .* take only eligible users"):
        evaluation_records(TWO, np.array([2]), length=3, holdout=1, part="test")


def test_settings_out_of_range() -> None:
    users = np.array([0])
    with pytest.raises(DataError, match="length must be at least 1, got 0"):
        train_records(ONE, users, length=0, max_windows=1, holdout=1)
    with pytest.raises(DataError, match="max-windows must be at least 0, got -1"):
        train_records(ONE, users, length=1, max_windows=-1, holdout=1)
    with pytest.raises(DataError, match="holdout must be at least 0, got -1"):
        eligible_users(ONE, holdout=-1)
    with pytest.raises(DataError, match="holdout must be at least 1, got 0"):
        evaluation_records(ONE, users, length=1, holdout=0, part="test")
    with pytest.raises(DataError, match="length must be at least 2, got 1"):
        evaluation_records(ONE, users, length=1, holdout=2, part="test")
    with pytest.raises(DataError, match="part must be valid or test, got 'train'"):
        evaluation_records(ONE, users, length=1, holdout=1, part="train")  # type: ignore[arg-type]


def numbered(sizes: list[int]) -> Dataset:
    """Users whose item codes are all different: interaction n of all has code n + 1."""
    total = sum(sizes)
    schema = Schema("numbered", "none", (), (), total, "")
    return Dataset(
        schema=schema,
        item_features={},
        user_ids=np.array([str(n) for n in range(len(sizes))], dtype=object),
        user_keys=np.arange(len(sizes), dtype=np.uint64),
        user_features={},
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        items=np.arange(1, total + 1, dtype=np.int32),
        labels=(np.arange(total) % 3 == 0).astype(np.int8),
        same_time=np.zeros(total, dtype=bool),
    )


worlds = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(sizes=worlds, length=st.integers(1, 12), holdout=st.integers(1, 4))
def test_every_training_interaction_is_a_target_in_exactly_one_record(
    sizes: list[int], length: int, holdout: int
) -> None:
    dataset = numbered(sizes)
    users = eligible_users(dataset, holdout=holdout)
    records = train_records(dataset, users, length=length, max_windows=0, holdout=holdout)
    expected = [
        np.arange(dataset.offsets[u] + 1, dataset.offsets[u + 1] + 1 - 2 * holdout) for u in users
    ]
    for row, wanted in enumerate(expected):
        targets = records.targets[row][records.mask[row]]
        assert targets.tolist() == wanted.tolist()  # in time order, none twice, none held out
        # a record's history is made of its own targets: no interaction is in two records
        for window in range(records.items.shape[1]):
            history = set(records.items[row, window].tolist()) - {0}
            assert history <= set(records.targets[row, window].tolist())


@settings(max_examples=100, deadline=None)
@given(
    sizes=worlds,
    length=st.integers(1, 12),
    windows=st.integers(1, 3),
    holdout=st.integers(1, 4),
)
def test_limited_windows_are_the_last_of_all(
    sizes: list[int], length: int, windows: int, holdout: int
) -> None:
    dataset = numbered(sizes)
    users = eligible_users(dataset, holdout=holdout)
    few = train_records(dataset, users, length=length, max_windows=windows, holdout=holdout)
    everything = train_records(dataset, users, length=length, max_windows=0, holdout=holdout)
    assert few.targets.shape[1] <= windows
    for row in range(len(users)):
        whole = everything.targets[row][everything.mask[row]]
        assert few.targets[row][few.mask[row]].tolist() == whole[-windows * length :].tolist()


@settings(max_examples=150, deadline=None)
@given(
    sizes=worlds,
    holdout=st.integers(1, 4),
    extra=st.integers(0, 10),
    part=st.sampled_from(["valid", "test"]),
)
def test_evaluation_masks_the_part_and_sees_nothing_after_it(
    sizes: list[int], holdout: int, extra: int, part: str
) -> None:
    dataset = numbered(sizes)
    users = eligible_users(dataset, holdout=holdout)
    length = holdout + extra
    records = evaluation_records(dataset, users, length=length, holdout=holdout, part=part)  # type: ignore[arg-type]
    for row, user in enumerate(users):
        end = int(dataset.offsets[user + 1]) + 1 - (holdout if part == "valid" else 0)
        held_out = records.targets[row][records.mask[row]]
        assert held_out.tolist() == list(range(end - holdout, end))
        everything = np.concatenate([records.items[row].ravel(), records.targets[row].ravel()])
        assert everything.max() == end - 1  # a validation history never holds a test item


@settings(max_examples=100, deadline=None)
@given(sizes=worlds, length=st.integers(1, 12), windows=st.integers(0, 3))
def test_padding_is_right_and_empty(sizes: list[int], length: int, windows: int) -> None:
    dataset = numbered(sizes)
    users = eligible_users(dataset, holdout=1)
    records = train_records(dataset, users, length=length, max_windows=windows, holdout=1)
    real = records.real
    assert not (real[..., 1:] & ~real[..., :-1]).any()
    for values in (records.items, records.feedback, records.targets, records.labels):
        assert not values[~real].any()
    assert (records.targets[real] > 0).all()
    assert (records.items[..., 1:][real[..., 1:]] == records.targets[..., :-1][real[..., 1:]]).all()
    told = records.labels[..., :-1][real[..., 1:]] + 1
    assert (records.feedback[..., 1:][real[..., 1:]] == told).all()
    assert not records.feedback[..., :1].any()


@given(st.integers(0, 2**64 - 1), st.floats(0.0, 1.0))
def test_a_share_of_users_is_chosen_by_their_key_alone(key: int, share: float) -> None:
    """All with share 1, none with share 0, and who is chosen stays so with a larger share."""
    keys = np.array([key], dtype=np.uint64)
    assert is_chosen(keys, 1.0).all()
    assert not is_chosen(keys, 0.0).any()
    if is_chosen(keys, share / 2).all():
        assert is_chosen(keys, share).all()
    assert is_chosen(keys, share).all() == (key >> 11 < share * 2**53)

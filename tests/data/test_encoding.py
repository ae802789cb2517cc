"""Codes of features, and rows turned into sorted users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mrff.data.encoding import (
    Repeats,
    Rows,
    bucket,
    categorical,
    first_rows,
    multi,
    natural_order,
    sorted_users,
    with_user_features,
)
from mrff.data.errors import DataError
from mrff.data.writing import Entities, UserChunk
from tests.support.small_folders import catalogue


def texts(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def test_categorical() -> None:
    feature, codes = categorical("c", texts("b", "a", None, "b"))
    assert (feature.size, feature.values, codes.tolist()) == (3, ("a", "b"), [2, 1, 0, 2])
    feature, codes = categorical("c", texts("b", "x"), values=["a", "b"])
    assert (feature.size, codes.tolist()) == (3, [2, 0])


def test_whole_numbers_are_ordered_as_numbers() -> None:
    assert natural_order(texts("10", "9", "1")) == ["1", "9", "10"]
    assert natural_order(texts("10", "9", "b")) == ["10", "9", "b"]


def test_multi() -> None:
    feature, codes = multi("m", [["b", "a", "b"], [], ["a"]])
    assert (feature.size, feature.width, feature.values) == (3, 2, ("a", "b"))
    assert codes.tolist() == [[2, 1], [0, 0], [1, 0]]
    feature, codes = multi("m", [["x", "a"], ["y"]], values=["a"])
    assert (feature.size, feature.width) == (2, 1)
    assert codes.tolist() == [[1], [0]]


def test_bucket() -> None:
    feature, codes = bucket("b", np.array([0.5, 1, 9.9, 10, np.nan]), [1, 10])
    assert codes.tolist() == [1, 2, 2, 3, 0]
    assert (feature.size, feature.values) == (4, ("below 1", "1..10", "from 10"))
    for edges in ([], [2, 1], [1, 1]):
        with pytest.raises(DataError, match="edges must increase"):
            bucket("b", np.array([1.0]), edges)


def test_first_rows() -> None:
    column = texts("b", "a", "b", "c", "a")
    assert first_rows(column, ["a", "b", "c"]).tolist() == [1, 0, 3]


ROWS = Rows(
    users=texts("2", "10", "2", "2", "2", "2"),
    items=texts("a", "b", "z", "c", "c", "c"),
    labels=np.array([1, 0, 1, 0, 1, 0], dtype=np.int8),
    times=np.array([9, 5, 3, 4, 4, 4], dtype=np.int64),
)


@pytest.mark.parametrize(
    ("repeats", "items", "labels", "count"),
    [
        ("keep", [3, 3, 3, 1, 2], [0, 1, 0, 1, 0], 0),
        ("exact", [3, 3, 1, 2], [0, 1, 1, 0], 1),
        ("first", [3, 1, 2], [0, 1, 0], 2),
        ("last", [3, 1, 2], [0, 1, 0], 2),
    ],
)
def test_users_are_sorted_and_repeats_counted(
    repeats: Repeats, items: list[int], labels: list[int], count: int
) -> None:
    """Item z is unknown; user 2 sees c three times at time 4, in the order of the file."""
    dropped: dict[str, int] = {}
    chunk = sorted_users(replace(ROWS, repeats=repeats), catalogue(), dropped)
    assert chunk.ids == ["2", "10"]
    assert chunk.items.tolist() == items
    assert chunk.labels.tolist() == labels
    assert chunk.sizes.tolist() == [len(items) - 1, 1]
    assert list(dropped.values()) == [1, count]


def test_last_of_repeats_is_the_latest() -> None:
    rows = Rows(
        texts("u", "u", "u"),
        texts("a", "b", "a"),
        np.array([1, 1, 0], dtype=np.int8),
        np.array([1, 2, 3]),
        repeats="last",
    )
    chunk = sorted_users(rows, catalogue(), {})
    assert (chunk.items.tolist(), chunk.labels.tolist()) == ([2, 1], [1, 0])
    chunk = sorted_users(replace(rows, repeats="first"), catalogue(), {})
    assert (chunk.items.tolist(), chunk.labels.tolist()) == ([1, 2], [1, 1])


def test_users_find_their_features() -> None:
    ones = np.ones(2, dtype=np.int64)
    chunk = UserChunk(["u", "w"], {}, ones, ones.astype(np.int32), ones.astype(np.int8), ones)
    age = bucket("age", np.array([5.0, 50.0]), [10])
    tags = multi("tags", [["x"], ["x", "y"]])
    with_user_features(chunk, Entities(["v", "w"], [age, tags]))
    assert chunk.codes["age"].tolist() == [0, 2]
    assert chunk.codes["tags"].tolist() == [[0, 0], [1, 2]]

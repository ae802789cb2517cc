"""Rows of new items and values begin where items like them are."""

from __future__ import annotations

import numpy as np
import pytest

from mrff_model.growing import NewItems, may_grow

# Items 1 to 3 are known, 4 to 7 are new.
CODES = {
    "item": np.arange(8, dtype=np.int32),
    "brand": np.array([0, 1, 1, 2, 1, 2, 3, 0], np.int32),
    "tags": np.array([[0, 0], [1, 0], [1, 2], [3, 0], [2, 1], [0, 0], [4, 0], [0, 0]], np.int32),
}
TABLE = np.array([[0, 0], [1, 10], [2, 20], [6, 60]], np.float32)


def test_a_new_item_begins_at_the_mean_of_those_that_share_most() -> None:
    new = NewItems.of(CODES, {"item"}, 3)
    grown = new.extended("item_features.item_table.weight", TABLE, 8)
    assert grown[:4].tolist() == TABLE.tolist()
    assert grown[4].tolist() == [2, 20]  # brand 1, tags 2 and 1: item 2 shares all three
    assert grown[5].tolist() == [6, 60]  # brand 2: item 3
    assert grown[6].tolist() == [3, 30]  # new values alone: nothing is shared, so all
    assert grown[7].tolist() == [3, 30]  # nothing is known of it
    bias = new.extended("next_head.item_bias.weight", TABLE[:, :1], 8)
    assert bias[:, 0].tolist() == [0, 1, 2, 6, 2, 6, 3, 3]
    copy = new.extended("clusters.1.item_bias.weight", TABLE[:, :1], 8)
    assert copy.tolist() == bias.tolist()


def test_several_are_alike() -> None:
    codes = {"brand": np.array([0, 1, 1, 2, 1], np.int32)}
    grown = NewItems.of(codes, (), 3).extended("item_bias.weight", TABLE[:, :1], 5)
    assert grown[4].tolist() == [1.5]


def test_without_features_all_are_alike() -> None:
    codes = {"item": np.arange(6, dtype=np.int32)}
    grown = NewItems.of(codes, {"item"}, 3).extended("item_table.weight", TABLE, 6)
    assert grown[4:].tolist() == [[3, 30], [3, 30]]


def test_a_new_value_begins_at_the_mean_of_the_known_values() -> None:
    new = NewItems.of(CODES, {"item"}, 3)
    grown = new.extended("item_features.brand_table.weight", TABLE[:3], 4)
    assert grown.tolist() == [[0, 0], [1, 10], [2, 20], [1.5, 15]]
    nobody = new.extended("user_features.region_table.weight", TABLE[:1], 2)
    assert nobody.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("name", "old", "new", "may"),
    [
        ("item_features.brand_table.weight", (3, 2), (4, 2), True),
        ("clusters.0.item_features.brand_table.weight", (3, 2), (4, 2), True),
        ("user_features.age_table.weight", (3, 2), (4, 2), True),
        ("item_features.brand_table.weight", (3, 2), (4, 3), False),
        ("item_features.brand_table.weight", (4, 2), (3, 2), False),
        ("positions.weight", (3, 2), (4, 2), False),
        ("head.first.weight", (3, 2), (4, 2), False),
        ("layers.0.experts.0.up_weight", (3, 2), (4, 2), False),
    ],
)
def test_only_tables_grow(name: str, old: tuple[int, ...], new: tuple[int, ...], may: bool) -> None:
    assert may_grow(name, old, new) is may


def test_item_statistics_of_any_copy_grow_by_rows_that_say_nothing() -> None:
    for name in ("item_statistics.rates", "clusters.1.item_statistics.vectors"):
        assert may_grow(name, (3, 2), (5, 2))
    new = NewItems(2, frozenset(), [])
    grown = new.extended("clusters.1.item_statistics.rates", np.ones((3, 2), np.float32), 5)
    assert grown.tolist() == [[1, 1]] * 3 + [[0, 0]] * 2

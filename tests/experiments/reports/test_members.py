"""Who is in a group: traits and examples worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrff.data.schema import Feature
from mrff.experiments.reports.likings import Likes, Liking
from mrff.experiments.reports.members import Members, members
from tests.support.small_data import small_dataset

TITLES = [f"item {code}" for code in range(13)]
LIKING = Liking(("item_id", 7), "item 7", 0.5, 0.1, 5.0, 9.0)


def population() -> Likes:
    """Forty users of twenty liked rows: the first ten like item 7 the more the later they come."""
    dataset = small_dataset((20,) * 40)
    items = np.ones((40, 20), dtype=np.int32)
    for user in range(10):
        items[user, : user + 1] = 7
    schema = replace(
        dataset.schema,
        user_features=(Feature("work", "categorical", 3, values=("baker", "cook")),),
    )
    dataset = replace(
        dataset, schema=schema, items=items.ravel(), labels=np.ones(800, dtype=np.int8),
        user_features={"work": np.repeat([1, 2], [10, 30]).astype(np.int32)},
    )  # fmt: skip
    return Likes.of(dataset, np.arange(800), 0)


def test_examples_are_those_who_like_it_most_with_titles() -> None:
    likes = population()
    found = members(likes, np.arange(40) < 10, [LIKING], TITLES)
    users = likes.dataset.user_ids
    assert found.examples == tuple(f"{users[user]} (item 7)" for user in (9, 8, 7))
    assert found.who == "median 20 rows; work: baker 100%, of all 25%"


def test_nobody_is_an_example_of_a_group_without_a_taste() -> None:
    likes = population()
    assert members(likes, np.arange(40) < 10, [], TITLES).examples == ()
    assert members(likes, np.arange(40) >= 10, [LIKING], TITLES).examples == ()
    assert members(likes, np.zeros(40, dtype=bool), [LIKING], TITLES) == Members()


def test_a_trait_that_all_share_alike_is_none() -> None:
    likes = population()
    half = np.arange(40) % 2 == 0
    assert members(likes, half, [], TITLES).who == "median 20 rows"


def test_a_trait_is_named_by_its_bounds() -> None:
    likes = population()
    age = Feature("age", "bucket", 4, values=("below 30", "30..50", "from 50"))
    codes = {"age": np.repeat([2, 1], [10, 30]).astype(np.int32)}
    dataset = replace(
        likes.dataset, schema=replace(likes.dataset.schema, user_features=(age,)),
        user_features=codes,
    )  # fmt: skip
    found = members(replace(likes, dataset=dataset), np.arange(40) < 10, [], TITLES)
    assert found.who == "median 20 rows; age 30 to 50 100%, of all 25%"

"""What groups take more of: by hand, by chance, and where activity or the time explain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrff.data.dataset import Dataset
from mrff.data.encoding import bucket
from mrff.data.schema import Feature
from mrff.experiments.reports.groups import Group, GroupPicture, _groups
from mrff.experiments.reports.likings import Likes, Liking
from tests.support.small_data import small_dataset

TITLES = [f"item {code}" for code in range(13)]


def population(users: int, rows: int, seed: int) -> tuple[Dataset, np.ndarray]:
    """Everybody has met random items at random times and likes half of them."""
    random = np.random.default_rng(seed)
    dataset = small_dataset((rows,) * users)
    number = users * rows
    dataset = replace(
        dataset,
        items=random.integers(1, 13, number).astype(np.int32),
        labels=random.integers(0, 2, number).astype(np.int8),
    )
    return dataset, np.sort(random.integers(0, 10_000, (users, rows)), axis=1).ravel()


def named(dataset: Dataset, times: np.ndarray, routes: np.ndarray) -> list[list[str]]:
    groups = _groups(Likes.of(dataset, times, 0), routes, 2, TITLES)
    return [[liking.name for liking in group.named] for group in groups]


def test_groups_by_chance_have_no_name() -> None:
    found = []
    for seed in range(20):
        dataset, times = population(200, 30, seed)
        routes = np.random.default_rng(seed + 100).integers(0, 2, 200)
        found += [name for names in named(dataset, times, routes) for name in names]
    assert len(found) <= 4  # one in twenty is expected


def test_a_taste_is_found_and_named() -> None:
    dataset, times = population(200, 30, 0)
    routes, labels = np.arange(200) % 2, dataset.labels.copy()
    of_one = np.repeat(routes, 30) == 1
    labels[of_one & (dataset.items == 7)] = 1
    labels[~of_one & (dataset.items == 7)] = 0
    _, one = _groups(Likes.of(replace(dataset, labels=labels), times, 0), routes, 2, TITLES)
    assert one.named[0].key == ("item_id", 7)
    assert one.named[0].times > 1.1
    assert one.name.startswith("item 7")


def test_what_the_time_explains_is_no_taste() -> None:
    """Half of the people came late, when everybody liked other things."""
    random, (dataset, _) = np.random.default_rng(3), population(200, 30, 3)
    late = np.repeat(np.arange(200) % 2, 30) == 1
    times = random.integers(0, 5000, 6000) + 5000 * late
    labels = np.where(late, dataset.items > 6, dataset.items <= 6).astype(np.int8)
    seen = replace(dataset, labels=labels)
    assert named(seen, times, np.arange(200) % 2) == [[], []]
    # Without times to tell them apart, the two sides seem to differ in taste.
    blind = named(seen, np.zeros(6000, np.int64), np.arange(200) % 2)
    assert all(blind)


def test_one_persons_many_rows_are_one_persons() -> None:
    """A single member with 900 of the rows moves a share far, and is no reason for a name."""
    random, sizes = np.random.default_rng(4), (900, *[20] * 99)
    dataset = small_dataset(sizes)
    items = random.integers(1, 13, sum(sizes)).astype(np.int32)
    items[:900] = 7
    dataset = replace(dataset, items=items, labels=np.ones(sum(sizes), np.int8))
    routes = np.arange(100) % 2
    likes = Likes.of(dataset, np.arange(sum(sizes)), 0)
    first, _ = _groups(likes, routes, 2, TITLES)
    liking = next(one for one in first.likings if one.key == ("item_id", 7))
    assert liking.share > 0.5
    assert liking.surprise < 1.5


def test_shares_by_hand() -> None:
    """Users of one stratum: two of group 0 like items 1, 1 and 2; one of group 1 likes item 2."""
    dataset = small_dataset((8, 8, 8))
    items = np.array([1, 1, 2, 3] * 2 + [1, 2, 2, 3] * 2 + [2, 2, 1, 3] * 2, np.int32)
    labels = np.array([1, 1, 1, 0] * 4 + [1, 1, 0, 0] * 2, np.int8)
    dataset = replace(dataset, items=items, labels=labels)
    likes = Likes.of(dataset, np.zeros(24, np.int64), 0)
    assert likes.rows.tolist() == [8, 8, 8]
    assert np.diff(likes.offsets).tolist() == [6, 6, 4]
    first, _ = likes.likings(np.array([0, 0, 1]), 2, TITLES)
    one = next(liking for liking in first if liking.key == ("item_id", 1))
    # item 1: 4 + 2 of 12 likes; of all 16 likes 6: 12 x 6 / 16 = 4.5 are expected
    assert one.share == pytest.approx(0.5)
    assert one.expected == pytest.approx(6 / 16)
    assert one.times == pytest.approx((6 + 7.5) / (4.5 + 7.5))
    # users are 4 - 2.25 and 2 - 2.25 from what is expected
    assert one.surprise == pytest.approx(1.5 / np.hypot(1.75, 0.25))


def test_the_verdict_says_whether_groups_mean_anything() -> None:
    nothing = Group(5, 0.5, [])
    liking = Liking(("g", 1), "g: Horror", 0.4, 0.2, 2.0, 9.0)
    picture = GroupPicture([], [[nothing, nothing]], 10)
    assert "no group takes more of anything" in picture.verdict
    with_name = GroupPicture([], [[nothing, Group(5, 0.5, [liking])]], 10)
    assert "1 of 2 groups take more of anything" in with_name.verdict
    assert with_name.layers[0][1].name == "g: Horror"
    assert "one group" in GroupPicture([], [[nothing]], 5).verdict


def names_with(feature: Feature) -> set[str]:
    """Of groups that like the items of either value of it, beside those of other features."""
    dataset, times = population(200, 30, 0)
    routes = np.arange(200) % 2
    labels = (dataset.items % 2 == np.repeat(routes, 30)).astype(np.int8)
    schema = replace(dataset.schema, item_features=(*dataset.schema.item_features, feature))
    codes = {feature.name: (np.arange(13) % 2 + 1).astype(np.int32)}
    told = replace(
        dataset, labels=labels, schema=schema, item_features={**dataset.item_features, **codes}
    )
    found = {name for group in named(told, times, routes) for name in group}
    assert any(name.startswith("item") for name in found)
    return {name for name in found if name.startswith(feature.name)}


@pytest.mark.parametrize(
    ("name", "edges", "told"),
    [
        ("price", (12, 30), {"price below 12", "price 12 to 30"}),
        ("duration", (5000,), {"duration below 5,000", "duration from 5,000"}),
        ("weight", (0.5, 1.25e6), {"weight below 0.5", "weight 0.5 to 1,250,000"}),
        ("altitude", (-20, 2000), {"altitude below -20", "altitude -20 to 2,000"}),
        ("year", (1990, 2000), set()),
        ("made", (1990, 2000), set()),
        ("releaseDate", (1, 2), set()),
        ("uploaded_at", (1.6e9, 1.7e9), set()),
    ],
)
def test_parts_of_a_number_are_named_by_their_bounds_but_not_those_of_a_time(
    name: str, edges: tuple[float, ...], told: set[str]
) -> None:
    """A release says when people came, and not what for."""
    feature, _ = bucket(name, np.zeros(1), edges)
    assert names_with(feature) == told


def test_a_release_year_names_nobody_as_a_category_either() -> None:
    assert names_with(Feature("year", "categorical", 3, values=("1994", "1995"))) == set()
    kept = names_with(Feature("yearbook", "categorical", 3, values=("yes", "no")))
    assert kept == {"yearbook: yes", "yearbook: no"}

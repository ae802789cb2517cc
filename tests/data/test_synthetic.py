"""Made-up data: the same for the same seed, groups one can find, a best AUC that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from mrff.data.dataset import Dataset, load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import floors
from mrff.data.prepare import prepare
from mrff.data.recipes import synthetic
from mrff.data.recipes.synthetic import SyntheticSettings
from mrff.data.schema import Schema


def make(out: Path, **options: Any) -> tuple[Schema, Dataset, np.ndarray[Any, Any]]:
    schema = prepare("synthetic", out=out, options=options)
    groups = pq.read_table(out / "truth.parquet").column("group").to_numpy()
    return schema, load_dataset(out), groups


def test_the_same_seed_gives_the_same_data(tmp_path: Path) -> None:
    first = make(tmp_path / "a", users=50)[0]
    assert make(tmp_path / "b", users=50)[0] == first
    other = make(tmp_path / "c", users=50, seed=1)[0]
    assert other.content_hash != first.content_hash
    assert other.catalogue_hash != first.catalogue_hash


def test_sizes(tmp_path: Path) -> None:
    schema, dataset, groups = make(
        tmp_path, users=300, items=70, groups=3, facets=2, events_per_user=9
    )
    assert schema.counts["users"] == dataset.num_users == len(groups) == 300
    assert [feature.name for feature in schema.item_features] == [
        "genre_1",
        "style_1",
        "genre_2",
        "style_2",
        "quality",
    ]
    sizes = np.diff(dataset.offsets)
    assert (sizes.min(), sizes.max()) == (5, 13)
    assert set(groups) == set(range(9))
    truth = pq.read_table(tmp_path / "truth.parquet").to_pydict()
    combined = np.array(truth["group_1"]) + 3 * np.array(truth["group_2"])
    assert combined.tolist() == truth["group"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_show_in_what_users_see(tmp_path: Path, seed: int) -> None:
    _, dataset, groups = make(tmp_path, users=400, seed=seed)
    owner = np.repeat(np.arange(400), np.diff(dataset.offsets))
    seen = np.zeros((400, 9))
    np.add.at(seen, (owner, dataset.item_features["genre"][dataset.items]), 1)
    found = KMeans(4, n_init=3, random_state=0).fit_predict(seen / seen.sum(axis=1)[:, None])
    assert adjusted_rand_score(groups, found) > 0.9


def test_groups_matter_for_labels(tmp_path: Path) -> None:
    """A style is liked by one group and not by another; without the group it says little."""
    schema, dataset, groups = make(tmp_path, users=2000)
    owner = np.repeat(groups, np.diff(dataset.offsets))
    style = dataset.item_features["style"][dataset.items]
    rates = np.array(
        [
            [dataset.labels[(owner == g) & (style == s)].mean() for s in range(1, 9)]
            for g in range(4)
        ]
    )
    assert (rates.max(axis=0) - rates.min(axis=0) > 0.4).all()
    assert np.abs(rates.mean(axis=0) - 0.5).max() < 0.1
    blind = floors(dataset, holdout=1, part="test").user_item.auc
    assert blind < schema.source["best_auc"] - 0.08


def test_best_auc_is_that_of_the_true_logit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = []
    original = synthetic._World.users

    def users(*arguments: Any) -> Any:
        made = original(*arguments)
        chances.append(made[2])
        return made

    monkeypatch.setattr(synthetic._World, "users", users)
    monkeypatch.setattr(synthetic, "CHUNK", 70)
    schema, dataset, _ = make(tmp_path, users=200)
    truth = np.concatenate(chances)
    assert len(chances) == 3
    expected = roc_auc_score(dataset.labels, truth)
    assert schema.source["best_auc"] == pytest.approx(expected, abs=1e-4)
    loss = -np.log(np.where(dataset.labels == 1, truth, 1 - truth)).mean()
    assert schema.source["best_log_loss"] == pytest.approx(loss, abs=1e-5)


def test_users_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHUNK", 100)
    make(tmp_path, users=450, events_per_user=4)
    for name in ("users", "interactions", "truth"):
        assert pq.read_metadata(tmp_path / f"{name}.parquet").num_row_groups == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": 0}, "users must be between 1 and 2000000000, got 0"),
        ({"groups": 65}, "groups must be between 1 and 64, got 65"),
        ({"facets": 4}, "facets must be between 1 and 3, got 4"),
        ({"events_per_user": 0}, "events-per-user must be between 1 and 10000, got 0"),
        ({"seed": -1}, "seed must be between 0"),
        ({"sparse": 2}, "sparse must be between 0 and 1, got 2"),
        ({"positive_percent": 0}, "positive-percent must be between 1 and 99, got 0"),
        ({"groups": 64, "facets": 3, "items": 500}, "use fewer groups, facets or items"),
        ({"colours": 3}, "synthetic has no option 'colours'; it has users, items"),
    ],
)
def test_impossible_worlds(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare("synthetic", out=tmp_path / "d", options=options)


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is generated and has no source"):
        prepare("synthetic", source=tmp_path, out=tmp_path / "d")


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_any_number_of_groups(tmp_path: Path, groups: int) -> None:
    schema, dataset, found = make(tmp_path, users=60, groups=groups, items=40, events_per_user=5)
    assert set(found) == set(range(groups))
    assert dataset.num_users == 60
    assert 0.6 < schema.source["best_auc"] < 1


def test_defaults_are_stated() -> None:
    assert SyntheticSettings() == SyntheticSettings(1000, 500, 4, 1, 40, 0)


@pytest.mark.parametrize("median", [2, 5, 20])
def test_sparse_data_are_short_histories_of_items_with_an_id(tmp_path: Path, median: int) -> None:
    schema, dataset, _ = make(tmp_path, users=3000, items=300, sparse=1, events_per_user=median)
    sizes = np.diff(dataset.offsets)
    assert np.median(sizes) == pytest.approx(median, abs=1)
    assert sizes.max() > 15 * median  # some are long
    assert [feature.name for feature in schema.item_features] == ["item", "genre", "style"]
    met = np.sort(np.bincount(dataset.items, minlength=301)[1:])
    assert met[-30:].sum() > 2 * met[:150].sum()  # a tenth outweighs a half


@pytest.mark.parametrize("percent", [1, 20, 99])
@pytest.mark.parametrize("sparse", [0, 1])
def test_so_many_labels_are_positive(tmp_path: Path, percent: int, sparse: int) -> None:
    schema, dataset, _ = make(tmp_path, users=1500, positive_percent=percent, sparse=sparse)
    assert dataset.labels.mean() == pytest.approx(percent / 100, abs=0.01)
    assert 0.6 < schema.source["best_auc"] < 1


def test_data_without_the_newer_options_are_known_as_before() -> None:
    """A folder that is there stays up to date."""
    recipe = synthetic.Synthetic()
    stated = recipe.identify(None, {"users": 7, "positive_percent": 50, "sparse": 0})
    assert set(stated["parameters"]) == {
        "users", "items", "groups", "facets", "events_per_user", "seed",
    }  # fmt: skip
    assert recipe.identify(None, {"sparse": 1})["parameters"]["sparse"] == 1


@pytest.mark.slow
def test_many_users(tmp_path: Path) -> None:
    schema, dataset, _ = make(tmp_path, users=200_000, events_per_user=10)
    assert schema.counts["users"] == dataset.num_users == 200_000

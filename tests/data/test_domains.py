"""Several prepared datasets as one: codes by hand, nothing of a domain lost, refusals in a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.data.dataset import Dataset, load_dataset, load_item_ids, load_times, load_titles
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.data.schema import INTERACTIONS_FILE, USERS_FILE, Feature, Schema
from mrff.data.shard import shard
from mrff.data.writing import Entities, Prepared, UserChunk, write_folder
from tests.support import small_folders
from tests.support.federation import run_federation

HISTORIES = small_folders.alternating(4, 5, 6)
SECOND = 1_000_000_000


def shop(folder: Path, **changes: Any) -> Path:
    """Two things without an id, of a brand and a price; one user."""
    folder.mkdir(parents=True)
    chunk = UserChunk(
        ids=["user 0"],
        codes={"city": np.array([2], np.int32)},
        sizes=np.array([3]),
        items=np.array([2, 1, 2], np.int32),
        labels=np.array([1, 0, 1], np.int8),
        times=np.arange(3) if "times" not in changes else changes.pop("times"),
    )
    items = Entities(
        ids=["a", "z"],
        encoded=[
            (Feature("brand", "categorical", 3, 1, ("ours", "theirs")), np.array([2, 1], np.int32)),
            (Feature("price", "bucket", 4), np.array([0, 3], np.int32)),
        ],
    )
    cities = (Feature("city", "categorical", 3, 1, ("Bern", "Oslo")),)
    made = Prepared("shop", "bought", items, cities, [chunk])
    write_folder(replace(made, **changes), folder, source={"recipe": "made up"})
    return folder


def described(folder: Path, **domains: Path | str) -> Path:
    lines = ['name = "all"', "[domains]", *(f'{n} = "{path}"' for n, path in domains.items())]
    path = folder / "domains.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def joined(folder: Path, **domains: Path | str) -> tuple[Schema, Dataset]:
    schema = prepare("domains", source=described(folder, **domains), out=folder / "all")
    return schema, load_dataset(folder / "all")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    small_folders.write(tmp_path / "films", HISTORIES)
    return tmp_path / "films"


def test_two_domains_by_hand(tmp_path: Path, films: Path) -> None:
    shop(tmp_path / "shop")
    schema, data = joined(tmp_path, films=films, shop="shop")  # beside the file
    assert schema.name == "all"
    assert schema.label_rule == "films: made up; shop: bought"
    assert [(f.name, f.kind, f.size, f.width) for f in schema.item_features] == [
        ("item", "id", 7, 1),
        ("domain", "categorical", 3, 1),
        ("genres_or_brand", "multi", 5, 2),
        ("price", "categorical", 4, 1),
    ]
    assert schema.item_features[2].values == (
        "films: red", "films: blue", "shop: ours", "shop: theirs",
    )  # fmt: skip
    assert schema.item_features[3].values == ("shop: price 1", "shop: price 2", "shop: price 3")
    codes = data.item_features
    assert codes["domain"].tolist() == [0, 1, 1, 1, 1, 2, 2]
    genres = [[0, 0], [1, 2], [2, 0], [0, 0], [1, 0], [4, 0], [3, 0]]
    assert codes["genres_or_brand"].tolist() == genres
    assert codes["price"].tolist() == [0, 0, 0, 0, 0, 0, 3]
    assert data.user_ids.tolist() == [*(f"films/user {n}" for n in range(3)), "shop/user 0"]
    assert [f.name for f in schema.user_features] == ["age_or_city"]
    assert data.user_features["age_or_city"].tolist() == [0, 1, 2, 4]
    assert data.items[-3:].tolist() == [6, 5, 6]
    assert load_item_ids(tmp_path / "all")[-2:] == ["shop/a", "shop/z"]
    assert load_titles(tmp_path / "all")[1:] == ["A", "B", "C", "D", "a", "z"]


def test_every_row_of_a_domain_is_there(tmp_path: Path, films: Path) -> None:
    _, data = joined(tmp_path, films=films, again=films)
    alone = load_dataset(films)
    for number in range(2):
        rows = slice(number * len(alone.items), (number + 1) * len(alone.items))
        assert np.array_equal(data.items[rows] - 4 * number, alone.items)
        assert np.array_equal(data.labels[rows], alone.labels)
    assert len(np.unique(data.user_keys)) == 6


def test_a_public_part_gives_the_codes_of_the_whole(tmp_path: Path, films: Path) -> None:
    """A node that has its own rows alone comes to the catalogue of all others."""
    shop(tmp_path / "shop")
    whole, data = joined(tmp_path, films=films, shop="shop")
    shard(films, tmp_path / "shards", 1)
    public = tmp_path / "shards" / "server"
    assert not (public / USERS_FILE).exists()
    (tmp_path / "node").mkdir()
    part, own = joined(tmp_path / "node", films=public, shop=tmp_path / "shop")
    assert part.schema_hash == whole.schema_hash
    assert own.user_ids.tolist() == data.user_ids[-1:].tolist()
    assert own.items.tolist() == data.items[-3:].tolist()


def test_a_domain_that_grows_keeps_its_codes(tmp_path: Path, films: Path) -> None:
    before, data = joined(tmp_path, films=films, shop=shop(tmp_path / "shop"))
    small_folders.write(films, [*HISTORIES, *small_folders.alternating(3, 3)[1:]])
    after, grown = joined(tmp_path, films=films, shop=tmp_path / "shop")
    assert after.schema_hash == before.schema_hash
    assert after.population == before.population
    assert grown.num_users == data.num_users + 1


def test_times_are_in_one_unit(tmp_path: Path) -> None:
    seconds = 1_600_000_000 + np.arange(3) * 60
    one = shop(tmp_path / "one", times=seconds)
    other = shop(tmp_path / "other", times=seconds * 1000)
    joined(tmp_path, one=one, other=other)
    assert load_times(tmp_path / "all").tolist() == 2 * (seconds * SECOND).tolist()


def test_a_network_is_trained_on_all_of_them(tmp_path: Path, films: Path) -> None:
    joined(tmp_path, films=films, shop=shop(tmp_path / "shop"))
    run_federation(tmp_path / "all", tmp_path, nodes=2, name="run")
    summary = json.loads((tmp_path / "runs" / "run" / "summary.json").read_text("utf-8"))
    assert summary["test_users"] == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "events"}, r"rows of different kinds \(films labelled, shop events\)"),
        ({"repeats": True}, r"in others not \(films False, shop True\)"),
        ({"times": 1_600_000_000 + np.arange(3)}, r"times of films are no dates"),
    ],
)
def test_domains_that_do_not_fit_are_named(
    tmp_path: Path, films: Path, changes: dict[str, Any], told: str
) -> None:
    shop(tmp_path / "shop", **changes)
    with pytest.raises(DataError, match=told) as error:
        joined(tmp_path, films=films, shop="shop")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "all"', "at least 2 prepared folders, got 0"),
        ('name = "all"\n[domains]\na = "films"', "at least 2 prepared folders, got 1"),
        ('name = "a/b"\n[domains]\na = "films"\nb = "films"', "must not hold '/'"),
        ('name = "all"\n[domains]\na = "films"\nb = 3', "domains.b must be a text"),
        ('name = "all"\n[domains]\na = "films"\nb = "none"', r"none.*schema\.json"),
    ],
)
def test_a_bad_description_says_what(tmp_path: Path, films: Path, text: str, told: str) -> None:
    path = tmp_path / "domains.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        prepare("domains", source=path, out=tmp_path / "all")


def test_domains_of_domains_and_a_damaged_one_are_refused(tmp_path: Path, films: Path) -> None:
    joined(tmp_path, films=films, again=films)
    (tmp_path / "more").mkdir()
    with pytest.raises(DataError, match="holds domains itself"):
        joined(tmp_path / "more", films=films, all=tmp_path / "all")
    (films / INTERACTIONS_FILE).unlink()
    with pytest.raises(DataError, match=INTERACTIONS_FILE):
        joined(tmp_path / "more", one=films, other=films)

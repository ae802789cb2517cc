"""Rows that grow where they are, against the catalogue that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mrff.data.append import Appended, append
from mrff.data.dataset import Dataset, load_dataset, load_times
from mrff.data.errors import DataError
from mrff.data.prepare import Wanted, prepare, prepare_asked
from mrff.data.schema import Schema
from mrff.data.shard import shard
from tests.support.shop import CUSTOMERS, EVENTS, PRODUCTS, TOML, grown_shop, shop

NEW = ["bob,s3,9,2", "bob,s5,2,4", "zoe,s1,4,5", "dan,s9,4,5", "bob,s3,1,5"]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's shard: bob, who has s3 at 1 and s1 at 2. dan is at the other node."""
    prepare("csv", source=shop(tmp_path / "files"), out=tmp_path / "d")
    shard(tmp_path / "d", tmp_path / "s", 2)
    return tmp_path / "s" / "node-0"


def log(tmp_path: Path, events: list[str] = NEW, toml: str = TOML, **more: list[str]) -> Path:
    """A node's own files: new events, and the whole catalogue as the shop has it by now."""
    products = [*PRODUCTS, "s9,Nine,q,a,5"]
    lines = {"customers": [*CUSTOMERS, "zoe,west"], "products": products, **more}
    return shop(tmp_path / "week", events=events, toml=toml, **lines)


def add(folder: Path, source: Path | None, catalogue: Path | None = None) -> Appended:
    return append(folder, source=source, catalogue=catalogue, progress=lambda *_: None)


def histories(dataset: Dataset, folder: Path) -> dict[str, list[tuple[int, int, int]]]:
    """Items, labels and times by user."""
    rows = list(zip(dataset.items, dataset.labels, load_times(folder).tolist(), strict=True))
    bounds = zip(dataset.user_ids, dataset.offsets, dataset.offsets[1:], strict=False)
    return {user: rows[first:last] for user, first, last in bounds}


def test_rows_are_added_in_time_and_unknown_items_counted(node: Path, tmp_path: Path) -> None:
    before = Schema.load(node)
    done = add(node, log(tmp_path))
    after = load_dataset(node)
    assert histories(after, node) == {
        "bob": [(2, 1, 1), (1, 0, 2), (3, 1, 2), (2, 0, 9)],  # at 2 the old row comes first
        "zoe": [(1, 1, 4)],
    }
    assert after.user_features["region"].tolist() == [1, 0]  # west is no value of this version
    assert done.rows == 3
    assert done.left_out == {
        "rows of items that the catalogue does not have": 1,
        "rows that were there already": 1,
    }
    assert done.schema == after.schema
    assert (after.schema.schema_hash, after.schema.population, after.schema.earlier) == (
        before.schema_hash, before.population, before.earlier,
    )  # fmt: skip
    assert after.schema.content_hash != before.content_hash
    assert after.schema.counts["dropped"]["rows of items that the catalogue does not have"] == 1
    assert after.schema.counts["interactions"] == len(after.items) == 5


def test_to_append_twice_is_to_append_once(node: Path, tmp_path: Path) -> None:
    add(node, log(tmp_path))
    once = load_dataset(node)
    done = add(node, log(tmp_path))
    twice = load_dataset(node)
    assert done.rows == 0
    assert done.left_out["rows that were there already"] == 4
    for name in ("items", "labels", "offsets", "user_keys"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(once, name))
    assert twice.schema.content_hash == once.schema.content_hash
    assert twice.schema.source["appended"] == 3


def test_repeats_are_kept_as_described(node: Path, tmp_path: Path) -> None:
    toml = TOML.replace('time = "when"', 'time = "when"\nrepeats = "last"')
    done = add(node, log(tmp_path, toml=toml))
    assert histories(load_dataset(node), node)["bob"] == [(1, 0, 2), (3, 1, 2), (2, 0, 9)]
    assert done.left_out["repeated items, last kept"] == 2  # one of them was new


def test_a_later_catalogue_is_taken_first(node: Path, tmp_path: Path) -> None:
    own = Schema.load(node)
    grown = prepare("csv", source=grown_shop(tmp_path / "files"), out=tmp_path / "d")
    shard(tmp_path / "d", tmp_path / "s2", 2)
    done = add(node, log(tmp_path, ["bob,s2,9,5"], products=[*PRODUCTS, "s2,,,,", "s4,,,,"]),
               tmp_path / "s2" / "server")  # fmt: skip
    after = load_dataset(node)
    assert histories(after, node) == {"bob": [(2, 1, 1), (1, 0, 2), (5, 1, 9)]}
    assert done.schema.schema_hash == grown.schema_hash
    assert done.schema.ancestors == grown.ancestors
    assert (done.schema.population, done.schema.source["shard"]) == (
        own.population, own.source["shard"],
    )  # fmt: skip
    again = add(node, None, tmp_path / "d")
    assert (again.rows, again.schema.schema_hash) == (0, grown.schema_hash)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"events": ["bob,s9,1,5"]}, "none of its 1 rows is of an item that the catalogue has: ta"),
        ({"toml": TOML.replace(">= 4", ">= 5")}, "the label rule is 'stars >= 5', that of the r"),
        ({"toml": TOML.replace('label = "stars', 'kind = "both"\nlabel = "stars')}, "kind of rows"),
        ({"toml": TOML.replace('time = "when"\n', "")}, "names no interactions.time: appended ro"),
        ({"toml": TOML.replace('region = "cat', 'region = "bucket"\n#')}, "edges"),
        ({"toml": TOML.replace('region = "categorical"', 'region = "multi"')},
         "user feature 'region' is described in another way than before: kind multi"),
        ({"events": ["bob,s3,1700000000,5"]}, "its latest time is 1700000000, that of the rows"),
        ({"events": ["bob,s3,x,5"]}, "row 1, column 'when': expected a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_appended_leaves_the_folder(
    node: Path, tmp_path: Path, change: dict[str, list[str]], reason: str
) -> None:
    before = {path.name: path.read_bytes() for path in node.iterdir()}
    with pytest.raises(DataError, match=reason):
        add(node, log(tmp_path, **change))  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in node.iterdir()} == before
    assert not list(node.parent.glob(".node-0.preparing-*"))


def test_other_catalogues_are_refused(node: Path, tmp_path: Path) -> None:
    """One begun anew, an earlier one, and one whose schema was edited to look like a later one."""
    first = Schema.load(node)
    prepare("csv", source=grown_shop(tmp_path / "files"), out=tmp_path / "d")
    anew = Wanted("csv", tmp_path / "files" / "shop.toml", tmp_path / "anew", {})
    prepare_asked(anew, anew=True)
    reason = r"is no later version of the catalogue in .*node-0 \(version 1"
    with pytest.raises(DataError, match=reason):
        add(node, None, tmp_path / "anew")
    forged = Schema.load(tmp_path / "anew")
    object.__setattr__(forged, "ancestors", (first.as_ancestor,))
    forged.save(tmp_path / "anew")
    with pytest.raises(DataError, match=r"says that it is a later version .* has other items"):
        add(node, None, tmp_path / "anew")
    shutil.copytree(node, tmp_path / "old")
    add(node, None, tmp_path / "d")
    with pytest.raises(DataError, match="is no later version"):
        add(node, None, tmp_path / "old")


def test_a_source_does_not_replace_what_was_appended(tmp_path: Path) -> None:
    prepare("csv", source=shop(tmp_path / "files"), out=tmp_path / "d")
    add(tmp_path / "d", log(tmp_path))
    with pytest.raises(DataError, match=r"d holds 3 appended rows, which the source may lack: ap"):
        prepare("csv", source=shop(tmp_path / "files", events=EVENTS[:3]), out=tmp_path / "d")
    assert load_dataset(tmp_path / "d").num_users == 3

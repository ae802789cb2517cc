"""A dataset that grows: codes stay, what is new comes after, and what cannot grow is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.data.dataset import Dataset, load_dataset, load_item_ids, load_titles
from mrff.data.errors import DataError
from mrff.data.growth import Known, extended
from mrff.data.prepare import Wanted, prepare, prepare_asked
from mrff.data.schema import Schema
from mrff.data.shard import shard
from mrff.data.writing import Prepared
from tests.support.shop import EVENTS, PRODUCTS, TOML, grown_shop, shop
from tests.support.small_folders import catalogue, chunk, prepared


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def history(dataset: Dataset, user: str) -> list[tuple[int, int]]:
    """Items and labels of a user."""
    row = list(dataset.user_ids).index(user)
    rows = slice(dataset.offsets[row], dataset.offsets[row + 1])
    return list(zip(dataset.items[rows].tolist(), dataset.labels[rows].tolist(), strict=True))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    prepare("csv", source=shop(tmp_path / "files"), out=tmp_path / "d")
    return tmp_path / "d"


def test_codes_stay_and_what_is_new_comes_after(out: Path, tmp_path: Path) -> None:
    first, before = Schema.load(out), load_dataset(out)
    second = prepare("csv", source=grown_shop(tmp_path / "files"), out=out)
    after = load_dataset(out)
    assert load_item_ids(out) == ["", "s1", "s3", "s5", "s4", "s2"]
    assert load_titles(out) == ["", "One", "Three", "Five", "Four", "Two"]
    features = {feature.name: feature for feature in after.schema.item_features}
    assert [feature.name for feature in after.schema.item_features] == [*before.item_features]
    assert (features["item"].size, after.item_features["item"].tolist()) == (6, [0, 1, 2, 3, 4, 5])
    assert features["brand"].values == ("x", "y", "w")  # by name it would be w, x, y
    assert after.item_features["brand"].tolist() == [0, 1, 2, 1, 3, 1]
    assert features["tags"].values == ("a", "b", "c", "d")
    assert features["tags"].width == 3
    assert after.item_features["tags"].tolist() == [
        [0, 0, 0], [1, 2, 0], [1, 0, 0], [0, 0, 0], [3, 1, 0], [1, 2, 4]
    ]  # fmt: skip
    assert after.item_features["price"].tolist() == [0, 1, 3, 2, 3, 2]
    assert after.schema.user_features[0].values == ("north", "south", "east")
    assert after.user_ids.tolist() == ["bob", "dan", "ann", "cy"]  # nobody changes the node
    assert after.user_features["region"].tolist() == [1, 2, 3, 2]
    assert history(after, "bob") == [*history(before, "bob"), (5, 1)]
    assert history(after, "ann") == [(4, 1)]
    assert second.counts["grown"] == {"new items": 2, "new values of features": 4, "new users": 2}
    assert (first.version, first.ancestor) == (1, "")
    assert (second.version, second.ancestor) == (2, first.schema_hash)
    assert second.ancestors == (first.as_ancestor,)
    assert first.as_ancestor.item_sizes == (4, 3, 3, 4)
    assert second.population == first.population
    assert Schema.load(out).ancestors == second.ancestors
    assert Schema.load(out).public.ancestors == second.ancestors


def test_a_catalogue_that_did_not_grow_is_no_new_version(out: Path, tmp_path: Path) -> None:
    first = Schema.load(out)
    more = [*EVENTS, "dan,s3,9,5"]
    second = prepare("csv", source=shop(tmp_path / "files", events=more), out=out)
    assert second.counts["interactions"] == first.counts["interactions"] + 1
    assert (second.version, second.schema_hash) == (1, first.schema_hash)
    third = prepare("csv", source=grown_shop(tmp_path / "files"), out=out)
    again = prepare("csv", source=tmp_path / "files" / "shop.toml", out=out)
    assert (again.version, again.schema_hash) == (third.version, third.schema_hash)
    one_more = [*PRODUCTS, "s4,,,,", "s2,,,,", "s6,,,,"]
    fourth = prepare("csv", source=shop(tmp_path / "files", products=one_more), out=out)
    assert [one.schema_hash for one in fourth.ancestors] == [first.schema_hash, third.schema_hash]


def test_two_places_that_grow_alike_have_one_hash(tmp_path: Path) -> None:
    for place in ("server", "node"):
        prepare("csv", source=shop(tmp_path / "files"), out=tmp_path / place)
    prepare("csv", source=grown_shop(tmp_path / "files"), out=tmp_path / "server")
    grown_shop(tmp_path / "files")
    (tmp_path / "files" / "events.csv").write_text("customer,sku,when,stars\neve,s2,1,5\n")
    prepare("csv", source=tmp_path / "files" / "shop.toml", out=tmp_path / "node")
    server, node = (Schema.load(tmp_path / place) for place in ("server", "node"))
    assert node.schema_hash == server.schema_hash
    assert node.population != server.population


def test_shards_of_a_grown_dataset_know_its_ancestors(out: Path, tmp_path: Path) -> None:
    first = prepare("csv", source=tmp_path / "files" / "shop.toml", out=out)
    prepare("csv", source=grown_shop(tmp_path / "files"), out=out)
    for schema in (*shard(out, tmp_path / "s", 2), Schema.load(tmp_path / "s" / "server")):
        assert (schema.version, schema.ancestor) == (2, first.schema_hash)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"products": PRODUCTS[1:]}, r"1 of 3 items are not in the source any more \(the first is "
         r"'s1'\): a catalogue only grows; keep their rows, or begin again with --anew"),
        ({"products": ["S1,One,x,a|b,4", *PRODUCTS[1:]]}, "if 'S1' is a new name, it is a new ite"),
        ({"toml": TOML.replace('brand = "categorical"', 'brand = "multi"')},
         "item feature 'brand' was of kind categorical and is of kind multi now; begin again w"),
        ({"toml": TOML.replace("[5, 20]", "[5, 21]")},
         r"item feature 'price' has other edges than before \(below 5, 5..20, from 20; now below"),
        ({"toml": TOML.replace('brand = "categorical"\n', "")}, "item feature 'brand' is gone: ev"),
        ({"toml": TOML.replace("region =", "area = { kind = 'categorical', column = 'region' }\n"
                               "region =")}, "user feature 'area' is new: every version has the"),
        ({"toml": TOML.replace(">= 4", ">= 5")},
         "the label rule was 'stars >= 4' and is 'stars >= 5' now, which is another dataset; beg"),
        ({"toml": TOML.replace('label = "stars >= 4"\n', "")}, "shop: the label rule was"),
        ({"toml": TOML.replace('label = "stars', 'kind = "both"\nlabel = "stars')},
         "the kind of rows was 'labelled' and is 'both' now"),
    ],
)  # fmt: skip
def test_what_is_no_next_version_leaves_the_old_one(
    out: Path, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    before = content(out)
    with pytest.raises(DataError, match=reason):
        prepare("csv", source=shop(tmp_path / "files", **change), out=out)  # type: ignore[arg-type]
    assert content(out) == before
    begun = prepare_asked(Wanted("csv", tmp_path / "files" / "shop.toml", out, {}), anew=True)
    assert (begun.version, begun.ancestors) == (1, ())


def test_settings_that_say_how_files_are_read_may_change(out: Path, tmp_path: Path) -> None:
    toml = TOML.replace('time = "when"', 'time = "when"\nrepeats = "last"\non-bad-row = "drop"')
    toml = toml.replace('brand = "categorical"', 'brand = { kind = "categorical", values = ["y"] }')
    events = [*EVENTS, "dan,s1,9,5", "x"]
    schema = prepare("csv", source=shop(tmp_path / "files", events=events, toml=toml), out=out)
    brand = schema.item_features[1]
    assert brand.values == ("x", "y")  # what was known stays known
    assert load_dataset(out).item_features["brand"].tolist() == [0, 0, 2, 0]  # to the source it is
    assert schema.counts["grown"] == {"items that changed a feature": 2}
    assert schema.version == 2


def test_begun_anew_people_stay_the_same(out: Path, tmp_path: Path) -> None:
    first = Schema.load(out)
    grown = grown_shop(tmp_path / "files")
    again = prepare_asked(Wanted("csv", grown, out, {}), anew=True)
    assert load_item_ids(out) == ["", "s4", "s1", "s3", "s5", "s2"]
    assert (again.version, again.population) == (1, first.population)


def test_who_is_gone_is_counted_and_moves_few(out: Path, tmp_path: Path) -> None:
    prepare("csv", source=grown_shop(tmp_path / "files"), out=out)  # bob, dan, ann, cy
    events = [line for line in EVENTS if "dan" not in line] + ["cy,s1,7,1", "ann,s5,1,1"]
    schema = prepare("csv", source=_later(tmp_path, [*events, "eve,s1,1,5"]), out=out)
    assert load_dataset(out).user_ids.tolist() == ["bob", "eve", "ann", "cy"]
    assert schema.counts["grown"] == {"new users": 1, "users that are gone": 1}
    prepare("csv", source=_later(tmp_path, [line for line in events if "bob" not in line]), out=out)
    assert load_dataset(out).user_ids.tolist() == ["cy", "ann"]  # only the last one moved


def _later(tmp_path: Path, events: list[str]) -> Path:
    toml = grown_shop(tmp_path / "files")
    (tmp_path / "files" / "events.csv").write_text(
        "\n".join(["customer,sku,when,stars", *events]) + "\n"
    )
    return toml


def test_a_catalogue_that_cannot_be_read_is_not_begun_anew(out: Path, tmp_path: Path) -> None:
    first = load_dataset(out)
    (out / "items.parquet").unlink()
    prepare("csv", source=tmp_path / "files" / "shop.toml", out=out)  # of the same files
    assert load_dataset(out).schema == first.schema
    (out / "items.parquet").write_text("half")
    with pytest.raises(DataError, match=r"the codes of version 1 are lost; restore it from a back"):
        prepare("csv", source=grown_shop(tmp_path / "files"), out=out)


def test_a_user_named_twice_is_named_in_a_grown_dataset_too() -> None:
    both = prepared([chunk([[(1, 1)]]), chunk([[(1, 1)]])])
    assert next(iter(extended(both, _known(["user 0"])).chunks)).ids == ["user 0", "user 0"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), unique=True), st.lists(st.integers(0, 12), unique=True, min_size=1)
)
def test_every_user_keeps_their_history(before: list[int], now: list[int]) -> None:
    """Whoever comes and goes: nobody is lost or doubled, and who stays moves only into a gap."""
    known = [f"user {number}" for number in before]
    source = prepared(
        [chunk([[(number % 4 + 1, 1)] * (number + 1)], first=number) for number in now]
    )
    (made,) = extended(source, _known(known)).chunks
    assert sorted(made.ids) == sorted(f"user {number}" for number in now)
    ends = np.cumsum(made.sizes)
    for name, size, end in zip(made.ids, made.sizes, ends, strict=True):
        number = int(name.split()[1])
        assert size == number + 1
        assert made.items[end - size : end].tolist() == [number % 4 + 1] * size
    gone = len(set(known) - set(made.ids))
    moved = [name for place, name in enumerate(known) if name in made.ids
             and (place >= len(made.ids) or made.ids[place] != name)]  # fmt: skip
    assert len(moved) <= gone


def _known(users: list[str]) -> Known:
    """The four items of `small_folders`, and these users."""
    plain: Prepared = prepared([chunk([[(1, 1)]])])
    schema = Schema(
        name="small", label_rule=plain.label_rule, item_features=plain.items.features,
        user_features=plain.user_features, num_items=4, catalogue_hash="",
    )  # fmt: skip
    items = catalogue()
    codes = {feature.name: values for feature, values in items.encoded}
    return Known(schema, items.ids, codes, users)

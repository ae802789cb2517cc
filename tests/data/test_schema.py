"""schema.json: what it refuses, and what its hash depends on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from mrff.data.errors import DataError
from mrff.data.schema import Feature, RowKind, Schema

SCHEMA = Schema(
    name="small",
    label_rule="rating >= 4",
    item_features=(Feature("genres", "multi", 4, 2, ("a", "b", "c")),),
    user_features=(Feature("age", "bucket", 5),),
    num_items=10,
    catalogue_hash="x",
    counts={"users": 3},
)


def test_round_trip(tmp_path: Path) -> None:
    SCHEMA.save(tmp_path)
    assert Schema.load(tmp_path) == SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        {"label_rule": "rating >= 5"},
        {"num_items": 11},
        {"catalogue_hash": "y"},
        {"user_features": ()},
        {"item_features": (Feature("genres", "multi", 5, 2, ("a", "b", "c")),)},
    ],
)
def test_hash_sees_what_the_network_depends_on(change: dict[str, object]) -> None:
    assert replace(SCHEMA, **change).schema_hash != SCHEMA.schema_hash  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"counts": {"users": 1}}, {"content_hash": "z"}, {"source": {"a": 1}}]
)
def test_hash_ignores_users_and_origin(change: dict[str, object]) -> None:
    assert replace(SCHEMA, **change).schema_hash == SCHEMA.schema_hash  # type: ignore[arg-type]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no schema\.json; make one with: mrff data prepare"):
        Schema.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "format version None"),
        ('{"format_version": 99}', "format version 99, this program reads 1"),
        ('{"format_version": 1}', "is damaged"),
        ('{"format_version": 1, "item_features": [3], "user_features": []}', "is damaged"),
    ],
)
def test_damaged(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(DataError, match=message):
        Schema.load(tmp_path)


def test_changed_by_hand(tmp_path: Path) -> None:
    SCHEMA.save(tmp_path)
    content = json.loads((tmp_path / "schema.json").read_text())
    content["num_items"] = 12
    (tmp_path / "schema.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed by hand"):
        Schema.load(tmp_path)


def test_impossible_features() -> None:
    with pytest.raises(DataError, match="kind must be one of id, categorical, multi, bucket"):
        Feature("x", "number", 3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 1, got 0 and 1"):
        Feature("x", "id", 0)


def test_the_kind_of_rows_is_binding_and_labelled_keeps_the_hash_of_earlier_folders(
    tmp_path: Path,
) -> None:
    hashes = {replace(SCHEMA, kind=kind).schema_hash for kind in get_args(RowKind)}
    assert len(hashes) == 3
    SCHEMA.save(tmp_path)
    content = json.loads((tmp_path / "schema.json").read_text())
    del content["kind"]  # as folders were written before there were kinds
    (tmp_path / "schema.json").write_text(json.dumps(content))
    assert Schema.load(tmp_path) == SCHEMA
    assert Schema.load(tmp_path).kind == "labelled"


def test_a_kind_changed_by_hand_is_refused(tmp_path: Path) -> None:
    replace(SCHEMA, kind="events").save(tmp_path)
    text = (tmp_path / "schema.json").read_text()
    for told, message in (("both", "changed by hand"), ("clicks", "kind must be one of")):
        (tmp_path / "schema.json").write_text(text.replace('"events"', f'"{told}"'))
        with pytest.raises(DataError, match=message):
            Schema.load(tmp_path)


@pytest.mark.parametrize(
    ("counts", "source", "missing"),
    [
        ({"interactions": 4, "positive": 4}, {}, "negative"),
        ({"interactions": 4, "positive": 0}, {}, "positive"),
        ({"interactions": 4, "positive": 1}, {}, ""),
        ({"items": 3}, {}, ""),  # the public part
        ({"interactions": 4, "positive": 4}, {"shard": {"node": 0}}, ""),  # of a whole that has two
    ],
)
def test_the_label_that_no_row_has(
    counts: dict[str, int], source: dict[str, Any], missing: str
) -> None:
    assert replace(SCHEMA, counts=counts, source=source).one_class == missing

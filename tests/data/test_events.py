"""Data without labels: every row is an event, and what happened again happened again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrff.data.dataset import Dataset, load_dataset
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.data.schema import EVENT_RULE, Schema
from mrff.data.shard import shard

EVENTS = '[interactions]\nfile = "rows.csv"\nuser = "u"\nitem = "i"\ntime = "t"\n'
ROWS = "u,i,t\nann,x,3\nann,x,1\nann,y,2\nann,x,1\nbob,y,1\n"  # ann: x x y x
LABEL = 'label = "liked"\n'
RATED = "u,i,t,liked\nann,x,1,1\nann,y,2,0\n"


def made(folder: Path, toml: str, **files: str) -> tuple[Schema, Dataset]:
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)
    (folder / "own.toml").write_text(toml)
    schema = prepare("csv", source=folder / "own.toml", out=folder / "d")
    return schema, load_dataset(folder / "d")


def test_without_a_label_rule_every_row_is_an_event_and_repeats_stay(tmp_path: Path) -> None:
    schema, dataset = made(tmp_path, EVENTS, rows=ROWS)
    assert (schema.kind, schema.label_rule) == ("events", EVENT_RULE)
    assert dataset.items.tolist() == [1, 1, 2, 1, 2]
    assert dataset.labels.tolist() == [1] * 5
    assert schema.counts["interactions"] == 5
    assert schema.counts["dropped"] == {}


@pytest.mark.parametrize(
    ("repeats", "items", "reason"),
    [
        ("keep", [1, 1, 2, 1, 2], None),
        ("exact", [1, 2, 1, 2], "exact copies of a row"),
        ("first", [1, 2, 2], "repeated items, first kept"),
        ("last", [2, 1, 2], "repeated items, last kept"),
    ],
)
def test_what_becomes_of_repeats_is_said_in_the_description(
    tmp_path: Path, repeats: str, items: list[int], reason: str | None
) -> None:
    schema, dataset = made(tmp_path, EVENTS + f'repeats = "{repeats}"\n', rows=ROWS)
    assert dataset.items.tolist() == items
    assert list(schema.counts["dropped"]) == ([reason] if reason else [])
    assert schema.repeats == (repeats in ("keep", "exact"))
    assert shard(tmp_path / "d", tmp_path / "s", 2)[0].schema_hash == schema.schema_hash


@pytest.mark.parametrize(
    ("said", "kind"),
    [("", "labelled"), ('kind = "labelled"\n', "labelled"), ('kind = "both"\n', "both")],
)
def test_rows_with_labels_are_answers_unless_they_are_choices_too(
    tmp_path: Path, said: str, kind: str
) -> None:
    schema, dataset = made(tmp_path, EVENTS + LABEL + said, rows=RATED)
    assert schema.kind == kind
    assert dataset.labels.tolist() == [1, 0]


def test_an_item_that_the_catalogue_lacks_is_dropped_and_counted(tmp_path: Path) -> None:
    toml = EVENTS + '[items]\nfile = "items.csv"\nid = "i"\n'
    schema, dataset = made(tmp_path, toml, rows=ROWS, items="i\nx\n")
    assert dataset.items.tolist() == [1, 1, 1]  # bob had nothing else
    assert schema.counts["dropped"] == {"rows of items missing from the catalogue": 2}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (EVENTS + 'label = "stars >= 4"\n', r"rows\.csv has no column 'stars'; its columns are"),
        (EVENTS + 'labels = "i"\n', r"unknown key 'interactions\.labels'"),
        (EVENTS + 'label = ""\n', r"interactions\.label must be a text, got ''"),
        (EVENTS + 'kind = "implicit"\n', "kind must be one of labelled, events, both, got 'impl"),
        (EVENTS + 'kind = "both"\n', r"kind is both, which needs interactions\.label"),
        (EVENTS + 'kind = "labelled"\n', r"kind is labelled, which needs interactions\.label"),
        (EVENTS + LABEL + 'kind = "events"\n', "kind is events, which have no label: leave"),
    ],
)
def test_a_description_that_cannot_be_meant_is_one_line(
    tmp_path: Path, toml: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        made(tmp_path, toml, rows=ROWS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "d").exists()


def test_shards_of_events_are_events_with_one_hash(tmp_path: Path) -> None:
    schema, _ = made(tmp_path, EVENTS, rows=ROWS)
    shards = shard(tmp_path / "d", tmp_path / "s", 2)
    public = Schema.load(tmp_path / "s" / "server")
    assert {part.kind for part in (*shards, public)} == {"events"}
    assert {part.schema_hash for part in (*shards, public)} == {schema.schema_hash}

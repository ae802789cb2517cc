"""New rows for a folder that is prepared already, or the catalogue's next version, on a node.

Rows grow where they are; the catalogue grows in one place, by `mrff.data.prepare`. What a row says
is read in the codes the folder has. Rows of items it does not know are left out and counted.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from mrff.data.dataset import (
    load_catalogue,
    load_dataset,
    load_item_ids,
    load_times,
)
from mrff.data.errors import DataError
from mrff.data.growth import other_meanings
from mrff.data.new_rows import Given, with_rows
from mrff.data.prepare import FILES, exclusive, replace_folder
from mrff.data.recipes import Progress, recipe_named
from mrff.data.recipes.description import read_description
from mrff.data.schema import ITEMS_FILE, Schema
from mrff.data.writing import UserChunk, write_users

APPENDED = "appended"  # in the source of a schema: how many rows


@dataclass
class Appended:
    """What became of a folder."""

    schema: Schema
    rows: int = 0  # more than before
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> rows


def append(
    folder: Path, *, source: Path | None, catalogue: Path | None, progress: Progress
) -> Appended:
    """Adds what the TOML ``source`` describes to a prepared folder, after taking a catalogue.

    Rows that are there already are left out: to append twice is to append once. Users keep their
    places and features, new ones come after them.

    Args:
        catalogue: a folder with a later version of the folder's catalogue.

    Raises:
        DataError: rows that mean something else, no row that could be used, or a catalogue that is
            no later version; the folder is as it was.
    """
    folder = Path(folder).expanduser().absolute()

    def build(staging: Path) -> Appended:
        schema = _later(folder, catalogue) if catalogue else load_catalogue(folder).schema
        shutil.copyfile((catalogue or folder) / ITEMS_FILE, staging / ITEMS_FILE)
        dataset = replace(load_dataset(folder), schema=schema)
        done = Appended(schema)
        chunk = UserChunk.of(dataset, load_times(folder))
        if source is not None:
            ids = load_item_ids(staging)[1:]
            given = _read(source, schema, progress)
            chunk, done.left_out = with_rows(chunk, given, ids, schema.user_features)
        counts, content_hash = write_users(staging, schema.user_features, [chunk])
        done.rows = counts["interactions"] - len(dataset.items)
        noted = schema.source.get(APPENDED, 0) + done.rows
        dropped = dict(schema.counts.get("dropped", {}))
        for reason, count in done.left_out.items():
            dropped[reason] = dropped.get(reason, 0) + count
        done.schema = replace(
            schema,
            counts={**schema.counts, "items": schema.num_items, **counts, "dropped": dropped},
            source={**schema.source, **({APPENDED: noted} if noted else {})},
            content_hash=content_hash,
        )
        done.schema.save(staging)
        return done

    with exclusive(folder):
        return replace_folder(folder, build, is_own=FILES.__contains__)


def _later(folder: Path, catalogue: Path) -> Schema:
    """The folder's schema with the catalogue of a later version."""
    own, later = load_catalogue(folder).schema, load_catalogue(catalogue).schema
    if own.schema_hash != later.schema_hash and later.ancestor_of(own.schema_hash) is None:
        raise DataError(
            f"{catalogue} (version {later.version}, {later.schema_hash}) is no later version of "
            f"the catalogue in {folder} (version {own.version}, {own.schema_hash}): take the one "
            "that the server uses"
        )
    known, ids = load_item_ids(folder), load_item_ids(catalogue)
    if ids[: len(known)] != known:
        raise DataError(
            f"{catalogue} says that it is a later version of the catalogue in {folder}, and has "
            "other items: it was changed by hand; take the one that the server uses"
        )
    return replace(
        later,
        counts={**own.counts, "items": later.num_items},
        source=own.source,
        population=own.population,
        earlier=own.earlier,
    )


def _read(source: Path, schema: Schema, progress: Progress) -> Given:
    """What the TOML describes, if its rows are of the folder's kind."""
    described = read_description(Path(source).expanduser().absolute())
    if described.time is None:
        raise DataError(
            f"{source} names no interactions.time: appended rows have to say when they happened"
        )
    with tempfile.TemporaryDirectory() as unused:
        prepared = recipe_named("csv").build(described.path, {}, Path(unused), progress)
    for what, have, given in other_meanings(prepared, schema):
        raise DataError(
            f"{source}: the {what} is {given!r}, that of the rows there is {have!r}: describe "
            "new rows as the old ones"
        )
    return described, prepared

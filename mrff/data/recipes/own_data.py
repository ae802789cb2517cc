"""Anyone's own files, described by a small TOML (``docs/data.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mrff.data import encoding
from mrff.data.columns import Table
from mrff.data.errors import DataError
from mrff.data.losses import LEFT_OUT, MALFORMED, SWALLOWED, check_malformed
from mrff.data.recipes.description import Description, read_description
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint
from mrff.data.recipes.row_rules import choose, labels_of
from mrff.data.recipes.sides import entities
from mrff.data.tables import read_table
from mrff.data.writing import Prepared


class OwnData(Recipe):
    """``--from`` names the TOML; the dataset's name is in it.

    Without a label rule every row is an event. Without an item file the catalogue is every item
    that occurs. Items that the item file does not have are dropped and counted; users that the
    user file does not have keep code 0.
    """

    name = "csv"
    version = 1
    summary = "your own CSV, JSON or parquet files, described by a TOML: --from DESCRIPTION.toml"

    def dataset_name(self, source: Path | None) -> str:
        """The name in the description."""
        return read_description(self.needed(source)).name

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the description and of every file it names."""
        described = read_description(self.needed(source))
        sides = [side.file for side in (described.items, described.users) if side.file]
        for path in (*described.files, *sides):
            if not path.is_file():
                raise DataError(f"{source} names {path}, which is no file; correct the path")
        return fingerprint([described.path, *described.files, *sides])

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the files one after the other."""
        described = read_description(self.needed(source))
        log = _read_interactions(described, progress)
        left_out = 0 if described.where is None else choose(log, described.where)
        times = _times(log, described)
        labels = labels_of(log, described.label)
        users, items = log.text(described.user), log.text(described.item)
        lost: dict[str, int] = {SWALLOWED: log.swallowed, LEFT_OUT: left_out}
        catalogue, known = (
            entities(side, log, lost) for side in (described.items, described.users)
        )
        check_malformed(log, described.files)
        lost[MALFORMED] = log.num_bad
        kept = log.keep()
        users, items = (names.take(pa.array(kept)) for names in (users, items))
        rows = encoding.Rows(users, items, labels[kept], times[kept], described.repeats)
        made = encoding.prepared(described.name, described.label.text, catalogue, rows, known)
        facts = {}
        if described.users.file is not None:
            (chunk,) = made.chunks
            facts["users_without_features"] = len(set(chunk.ids) - set(known.ids))
        kind, dropped = described.kind, lost | made.dropped
        again = kind != "labelled" and described.repeats in ("keep", "exact")
        return replace(made, dropped=dropped, facts=facts, kind=kind, repeats=again)


def _read_interactions(described: Description, progress: Progress) -> Table:
    """All files one below the other, as one table."""
    columns = [described.user, described.item]
    columns += described.label.columns
    columns += [] if described.where is None else described.where.columns
    columns += [] if described.time is None else [described.time]
    for side in (described.items, described.users):
        columns += side.columns if side.file is None else []
    tables = []
    for number, path in enumerate(described.files):
        progress(f"reading {path.name}", number, len(described.files))
        tables.append(
            read_table(path, columns, layout=described.layout, tolerant=described.drop_bad_rows)
        )
    return Table.stacked(tables)


def _times(log: Table, described: Description) -> NDArray[np.int64]:
    if described.time is None:
        return np.arange(log.num_rows)
    wanted = "a number or a date like 2024-01-31 (interactions.time-format names other forms)"
    return log.times(described.time, pattern=described.time_format, wanted=wanted)

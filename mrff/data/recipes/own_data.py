"""Anyone's own files, described by a small TOML (``docs/data.md``)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.columns import Table
from mrff.data.encoding import (
    Rows,
    bucket,
    categorical,
    first_rows,
    item_id_feature,
    multi,
    natural_order,
    sorted_users,
    with_user_features,
)
from mrff.data.errors import DataError
from mrff.data.recipes.description import (
    Description,
    FeatureColumn,
    LabelRule,
    Side,
    read_description,
)
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint, needed, no_options
from mrff.data.schema import Feature
from mrff.data.tables import read_table
from mrff.data.writing import Catalogue, Codes, Prepared

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class OwnData(Recipe):
    """``--from`` names the TOML; the dataset's name is in it.

    Without an item file the catalogue is every item that occurs. Items that the item file does
    not have are dropped and counted; users that the user file does not have keep code 0.
    """

    name = "csv"
    version = 1
    summary = "your own CSV or parquet files, described by a TOML: --from DESCRIPTION.toml"
    default_source = ""

    def dataset_name(self, source: Path | None) -> str:
        """The name in the description."""
        return read_description(needed(self, source)).name

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksums of the description and of every file it names."""
        no_options(self, options)
        described = read_description(needed(self, source))
        sides = [side.file for side in (described.items, described.users) if side.file]
        for path in (*described.files, *sides):
            if not path.is_file():
                raise DataError(f"{source} names {path}, which is no file; correct the path")
        return fingerprint([described.path, *described.files, *sides])

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads the files one after the other."""
        described = read_description(needed(self, source))
        dropped: dict[str, int] = {}
        log = _read_interactions(described, progress)
        times = _times(log, described)
        labels = _labels(log, described.label)
        users, items = log.text(described.user), log.text(described.item)
        catalogue = _catalogue(described.items, log)
        user_table, user_ids, user_rows = _table_of(described.users, log)
        encoded = [_encode(user_table, user_rows, f) for f in described.users.features]
        if log.tolerant:
            dropped["malformed rows"] = log.malformed + int(log.bad.sum())
        kept = pa.array(log.keep())
        rows = Rows(users.take(kept), items.take(kept), labels[log.keep()], times[log.keep()])
        chunk = sorted_users(rows, catalogue, repeats=described.repeats, dropped=dropped)
        user_features = with_user_features(chunk, user_ids, encoded)
        if described.users.file is not None:
            absent = ~np.asarray(pc.is_in(pa.array(chunk.ids, pa.string()), user_ids))
            facts = {"users_without_features": int(absent.sum())}
        else:
            facts = {}
        return Prepared(
            name=described.name,
            label_rule=described.label.text,
            catalogue=catalogue,
            user_features=user_features,
            chunks=[chunk],
            dropped=dropped,
            facts=facts,
        )


def _read_interactions(described: Description, progress: Progress) -> Table:
    """All files one below the other, as one table."""
    columns = [described.user, described.item, described.label.column]
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


def _labels(log: Table, rule: LabelRule) -> NDArray[np.int8]:
    if rule.operator is None:
        return log.binary(rule.column)
    compare = _COMPARE[rule.operator]
    try:
        limit = float(rule.value)
    except ValueError:
        if rule.operator not in ("==", "!="):
            raise DataError(
                f"label rule {rule.text!r}: {rule.operator} needs a number, got {rule.value!r}"
            ) from None
        texts = pc.fill_null(log.text(rule.column), "")
        return np.asarray(compare(np.asarray(texts, dtype=object), rule.value)).astype(np.int8)
    return np.asarray(compare(log.numbers(rule.column), limit)).astype(np.int8)


def _table_of(side: Side, log: Table) -> tuple[Table, Any, NDArray[np.int64]]:
    """The table, the ids and the row of each id: of the side's file, or of the interactions."""
    if side.file is not None:
        table = read_table(side.file, side.columns, layout=side.layout)
        return table, table.distinct(side.id), np.arange(table.num_rows)
    column = log.text(side.id)
    names = natural_order(column.unique())
    return log, pa.array(names, pa.string()), first_rows(column, names)


def _catalogue(side: Side, log: Table) -> Catalogue:
    table, ids, rows = _table_of(side, log)
    encoded = [
        item_id_feature(len(ids), f.name) if f.kind == "id" else _encode(table, rows, f)
        for f in side.features
    ]
    titles = None
    if side.title is not None:
        found = table.text(side.title, optional=True).take(pa.array(rows))
        titles = pc.fill_null(found, "").to_pylist()
    return Catalogue(
        ids=ids.to_pylist(),
        features=tuple(feature for feature, _ in encoded),
        codes={feature.name: codes for feature, codes in encoded},
        titles=titles,
    )


def _encode(table: Table, rows: NDArray[np.int64], wanted: FeatureColumn) -> tuple[Feature, Codes]:
    if wanted.kind == "bucket":
        numbers = table.numbers(wanted.column, optional=True)[rows]
        return bucket(wanted.name, numbers, wanted.edges)
    if wanted.kind == "multi":
        values = table.lists(wanted.column, wanted.separator, rows)
        return multi(wanted.name, values, values=wanted.values)
    column = table.text(wanted.column, optional=True).take(pa.array(rows))
    return categorical(wanted.name, column, values=wanted.values)


OWN_DATA = OwnData()

"""Items and users of somebody's own data: their own file, or columns of the interactions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data import encoding
from mrff.data.columns import Table
from mrff.data.losses import LEFT_OUT, MALFORMED, SWALLOWED, check_malformed
from mrff.data.recipes.description import FeatureColumn, Side
from mrff.data.recipes.row_rules import choose
from mrff.data.tables import read_table
from mrff.data.writing import Encoded, Entities


def entities(side: Side, log: Table, lost: dict[str, int]) -> Entities:
    """Those of the side's file, or those that occur in the interactions.

    Args:
        lost: counts by reason; what the file loses is added.

    Raises:
        DataError: a row that cannot be used or repeats another, unless the side says to drop it.
    """
    if side.file is None:
        table, column = log, pc.if_else(~log.left_out, log.text(side.id), None)
        ids = encoding.natural_order(column.unique())
        rows = encoding.first_rows(column, ids)
    else:
        tolerant = side.drop_bad_rows
        table = read_table(side.file, side.columns, layout=side.layout, tolerant=tolerant)
        if side.where is not None:
            lost[f"{LEFT_OUT} of {side.file.name}"] = choose(table, side.where)
        for feature in side.features:
            if feature.kind == "bucket":  # finds the rows that are not usable
                table.numbers(feature.column, optional=True)
        rows = table.one_each(side.id, side.repeats)
        check_malformed(table, (side.file,))
        ids = table.text(side.id).take(pa.array(rows)).to_pylist()
        name = side.file.name
        lost[SWALLOWED] += table.swallowed
        lost[f"{MALFORMED} of {name}"] = table.num_bad
        repeated = len(table.keep()) - len(rows)
        lost[f"repeated rows of {name}, {side.repeats} kept"] = repeated
    encoded = [_encode(table, rows, feature) for feature in side.features]
    if side.title is None:
        return Entities(ids, encoded)
    titles = table.text(side.title, optional=True).take(pa.array(rows))
    return Entities(ids, encoded, pc.fill_null(titles, "").to_pylist())


def _encode(table: Table, rows: NDArray[np.int64], wanted: FeatureColumn) -> Encoded:
    if wanted.kind == "id":
        return encoding.item_id_feature(len(rows), wanted.name)
    if wanted.kind == "bucket":
        numbers = table.numbers(wanted.column, optional=True)[rows]
        return encoding.bucket(wanted.name, numbers, wanted.edges)
    if wanted.kind == "multi":
        values = table.lists(wanted.column, wanted.separator, rows)
        return encoding.multi(wanted.name, values, values=wanted.values)
    column = table.text(wanted.column, optional=True).take(pa.array(rows))
    return encoding.categorical(wanted.name, column, values=wanted.values)

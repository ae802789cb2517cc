"""A prepared folder whose users met several items at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mrff.data.schema import INTERACTIONS_FILE

Change = Callable[[dict[str, Any]], None]
AT_ONCE = 3  # rows of one time
LAST = 1_600_000_000  # seconds since 1970


def tied(source: Path, folder: Path, change: Change | None = None) -> Path:
    """A copy of ``source``, every user's last three rows at one time, the three before, ...

    Args:
        change: of the columns ``user``, ``item``, ``label``, ``time`` (N,), in place.
    """
    shutil.copytree(source, folder)
    table = pq.read_table(folder / INTERACTIONS_FILE)
    columns: dict[str, Any] = {name: np.array(table[name]).copy() for name in table.column_names}
    sizes = np.bincount(columns["user"])
    place = np.arange(len(table)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    moments = (sizes[columns["user"]] - 1 - place) // AT_ONCE
    columns["time"] = LAST - 5_000 * moments
    if change is not None:
        change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), folder / INTERACTIONS_FILE)
    return folder


def flipped(user: int, place: int) -> Change:
    """Another label of the row ``place`` of a user; negative: from their last one."""

    def change(columns: dict[str, Any]) -> None:
        rows = np.flatnonzero(columns["user"] == user)
        columns["label"][rows[place]] = 1 - columns["label"][rows[place]]

    return change

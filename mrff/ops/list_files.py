"""Writes users' lists as parquet, CSV or JSON: a row per user and place, the whole file or none.

A new format: its class, and its line in `FORMATS`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mrff.data.dataset import load_item_ids
from mrff.data.errors import DataError
from mrff.io.files import OutputError, replaced
from mrff.ops.lists import AllUsers, Lists

COLUMNS = (
    ("user_id", pa.string()),
    ("rank", pa.int32()),  # from 1
    ("item_id", pa.string()),  # as in the source data
    ("score", pa.float64()),  # of what orders the list
)
P_LIKE = ("p_like", pa.float64())  # beside a score of the next item, where clicks were learned too


class ListFile(Protocol):
    """A file that takes tables, one after the other."""

    def write_table(self, table: pa.Table) -> None:
        """Adds the table's rows."""
        ...

    def close(self) -> None:
        """Writes what is at the end; the file itself stays open."""
        ...


class JsonLists:
    """An array of objects, one in a line."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file, self._before = file, b"[\n"

    def write_table(self, table: pa.Table) -> None:
        """See `ListFile.write_table`."""
        for row in table.to_pylist():
            self._file.write(self._before + json.dumps(row, allow_nan=False).encode())
            self._before = b",\n"

    def close(self) -> None:
        """See `ListFile.close`."""
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


FORMATS = {".parquet": pq.ParquetWriter, ".csv": pyarrow.csv.CSVWriter, ".json": JsonLists}


def check_file(path: Path) -> None:
    """Refuses a file that lists cannot be written to, before anything is computed.

    Raises:
        OutputError: its suffix names no format, or it is a folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputError(
            f"lists are written to a file that ends in {', '.join(FORMATS)}, got {path.name!r}"
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it")


@contextmanager
def list_file(path: Path, *, p_like: bool) -> Iterator[ListFile]:
    """A file of lists that gets its name when it is complete; for its owner alone.

    Raises:
        OutputError: see `check_file`.
    """
    check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([*COLUMNS, P_LIKE] if p_like else COLUMNS)
    new = FORMATS[path.suffix.lower()]
    with replaced(path) as file, closing(new(file, schema)) as rows:
        yield rows


@dataclass(frozen=True)
class Written:
    """How many users got a list, and how many did not."""

    users: int
    rows: int
    shared_only: int  # with a list, and without the private parameters that others have
    too_short: int  # for the split, and without a list
    nothing_left: int  # of what was asked for, so that they have no list


def write_lists(asked: AllUsers, path: Path, progress: Callable[[int], None]) -> Written:
    """Writes the lists of all users.

    Args:
        progress: called with the number of users who are done.

    Raises:
        OutputError: see `check_file`.
        DataError: no user has a list; and see `AllUsers.lists`.
    """
    nodes = asked.nodes
    item_ids = pa.array(load_item_ids(nodes.dataset_folder), pa.string())
    p_like = nodes.best.config.objective == "both"
    totals: Counter[str] = Counter()
    with list_file(path, p_like=p_like) as rows:
        for lists in asked.lists():
            table = table_of(lists, item_ids, p_like=p_like)
            rows.write_table(table)
            listed = int((lists.best.items[:, :1] > 0).sum())
            totals.update(
                users=listed,
                rows=table.num_rows,
                shared_only=lists.shared_only,
                too_short=lists.too_short,
                nothing_left=len(lists.users) - listed,
            )
            progress(totals["users"] + totals["nothing_left"] + totals["too_short"])
        if not totals["users"]:
            raise DataError(
                f"no user has a list, nothing was written: {totals['too_short']} are too short for "
                f"the split, {totals['nothing_left']} have met all items that were asked for"
            )
    return Written(**totals)


def table_of(lists: Lists, item_ids: pa.Array, *, p_like: bool) -> pa.Table:
    """The lists as rows, user after user and best first.

    Args:
        item_ids: by code.
    """
    best = lists.best
    users, places = np.nonzero(best.items)
    columns = {
        "user_id": pa.array(lists.users, pa.string()).take(pa.array(users)),
        "rank": pa.array(places + 1, pa.int32()),
        "item_id": item_ids.take(pa.array(best.items[users, places])),
        "score": pa.array(best.scores[users, places]),
    }
    if p_like:
        assert best.logits is not None
        columns["p_like"] = pa.array(1.0 / (1.0 + np.exp(-best.logits[users, places])))
    return pa.table(columns)

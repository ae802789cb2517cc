"""Private parameters on the node's disk: keyed by user, versioned by round, safe against crashes.

The folder holds one SQLite database with a row for each version of a user's parameters. A save is
one transaction, so a crash leaves the old or the new versions, never a mixture. Every version has
a checksum; sums over the keys of all rows tell a damaged key from a new user.

Which version counts depends on the run, not on the file's age. A run that is resumed from a
checkpoint starts a new epoch at that round; versions of later rounds of earlier epochs never
happened.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrff.io.sqlite import DamagedDatabaseError, opened, transaction

FILE = "private.sqlite"
SCHEMA = """
PRAGMA page_size = 32768;  -- several users of a small network fit one page
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, user INTEGER NOT NULL, epoch INTEGER NOT NULL, round INTEGER NOT NULL,
    checksum INTEGER NOT NULL, content BLOB NOT NULL, UNIQUE (user, epoch, round)
);
CREATE TABLE about (id INTEGER PRIMARY KEY, layout TEXT NOT NULL, sums TEXT NOT NULL);
"""
_SUMS = """SELECT json_array(count(*), sum(user & 4294967295), sum(user >> 32), sum(epoch),
                             sum(round)) FROM versions"""
_KEYS = ("user", "epoch", "round")
_END = np.iinfo(np.int64).max
_AT_ONCE = 256  # contents in memory twice


class PrivateStoreError(ValueError):
    """The store cannot be read or written; training must not go on from nothing."""


class PrivateStore:
    """Reads and writes the private parameters of one node's users.

    Args:
        folder: of this node and this training; made when first written to.
        epoch_starts: the round each epoch of the run started after; ``(0,)``: never resumed.
    """

    def __init__(self, folder: Path, epoch_starts: Sequence[int] = (0,)) -> None:
        self.folder = folder
        self._file = folder / FILE
        # The last round of each epoch that counts: where the next one started, or a later one.
        starts = np.array([*epoch_starts[1:], _END])
        self._ends = np.minimum.accumulate(starts[::-1])[::-1]

    def load(
        self, users: np.ndarray, *, up_to_round: int, initial: Mapping[str, Tensor], num_layers: int
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Each user's newest version of a round <= ``up_to_round``; ``initial`` for those without.

        Args:
            users: (U,) uint64 user keys.
            initial: (1, ...) each, a new user's parameters.
            num_layers: width of the routes.

        Returns:
            Parameters (U, ...) and the routes of that version (U, layers), -1 where there is none.

        Raises:
            PrivateStoreError: the store is damaged or belongs to another network.
        """
        parameters = {n: v.repeat(len(users), *[1] * (v.dim() - 1)) for n, v in initial.items()}
        routes = np.full((len(users), num_layers), -1, dtype=np.int64)
        self._refuse_segments()
        if not self._file.exists():
            return parameters, routes
        try:
            with opened(self._file) as database:
                database.execute("BEGIN")  # one state of the store, whoever writes meanwhile
                stored = self._layout(database, _layout_of(parameters, routes))
                versions = self._of_this_run(_versions(database, users))
                newest = _last_of_each(versions[versions["round"] <= up_to_round])
                for places, rows in self._read(database, users, newest, stored):
                    at = torch.from_numpy(places)
                    for name, values in parameters.items():
                        values[at] = torch.from_numpy(rows[name].copy())
                    routes[places] = rows["routes"]
        except DamagedDatabaseError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise PrivateStoreError(
                f"private store {self._file} cannot be read: {error}"
            ) from error
        return parameters, routes

    def save(
        self,
        users: np.ndarray,
        parameters: Mapping[str, Tensor],
        routes: np.ndarray,
        *,
        round_number: int,
        checkpoint_round: int,
        best_round: int,
    ) -> None:
        """Adds the version of ``round_number`` for ``users``; removes theirs no one can ask for.

        Still needed are each user's newest version, the one before this round (the round may be
        retried) and the newest up to ``checkpoint_round`` (the run may be resumed there) and up to
        ``best_round`` (the run leaves that model).

        Raises:
            PrivateStoreError: the folder cannot be written to; nothing stored before is lost.
        """
        self._refuse_segments()
        if not len(users):
            return
        try:
            with opened(self._file, SCHEMA) as database, transaction(database):
                stored = self._layout(database, _layout_of(parameters, routes))
                rows = np.zeros(len(users), stored)
                rows["user"], rows["round"], rows["routes"] = users, round_number, routes
                rows["epoch"] = len(self._ends) - 1
                for name, values in parameters.items():
                    rows[name] = values.numpy()
                self._write(database, rows, (round_number - 1, checkpoint_round, best_round))
                layout, sums = _as_json(stored), database.execute(_SUMS).fetchone()[0]
                database.execute("INSERT OR REPLACE INTO about VALUES (0, ?, ?)", (layout, sums))
        except DamagedDatabaseError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise PrivateStoreError(
                f"private store {self.folder} cannot be written: {error}; "
                "free space or choose another state-dir"
            ) from error

    def _write(self, database: sqlite3.Connection, rows: np.ndarray, limits: Sequence[int]) -> None:
        """Puts the new versions over those of the same users that nobody needs any more."""
        old = _versions(database, rows["user"])
        old = old[old["epoch"] < len(self._ends)]  # later ones belong to a run resumed meanwhile
        again = np.isin(old["round"], rows["round"]) & (old["epoch"] == len(self._ends) - 1)
        needed = self._needed(old[~again], rows, limits)  # without those of a try before
        free = np.setdiff1d(old["id"][~again], needed).tolist()
        gone = [*old["id"][again].tolist(), *free[len(rows) :]]
        database.executemany("DELETE FROM versions WHERE id = ?", ((i,) for i in gone))
        contents = [row.data for row in rows.view(np.uint8).reshape(len(rows), -1)]
        columns = (rows[name].view(np.int64).tolist() for name in _KEYS)
        values = zip(*columns, map(zlib.crc32, contents), contents, strict=True)
        database.executemany(
            "UPDATE versions SET user = ?, epoch = ?, round = ?, checksum = ?, content = ? "
            "WHERE id = ?",
            ((*row, place) for place, row in zip(free[: len(rows)], values, strict=False)),
        )
        database.executemany(
            "INSERT INTO versions (user, epoch, round, checksum, content) VALUES (?, ?, ?, ?, ?)",
            values,
        )

    def _needed(self, old: np.ndarray, new: np.ndarray, limits: Sequence[int]) -> np.ndarray:
        """Ids of the versions somebody may still ask for, once the new ones are there."""
        both = np.zeros(len(old) + len(new), old.dtype)
        both[: len(old)] = old
        for name in _KEYS:
            both[name][len(old) :] = new[name].view(np.int64)
        both = self._of_this_run(both)
        parts = [_last_of_each(both[both["round"] <= limit]) for limit in (_END, *limits)]
        return np.concatenate([part["id"] for part in parts])

    def _of_this_run(self, versions: np.ndarray) -> np.ndarray:
        """Those on this run's line: none of a later round than where a later epoch started."""
        known = versions[versions["epoch"] < len(self._ends)]
        return known[known["round"] <= self._ends[known["epoch"]]]

    def _layout(self, database: sqlite3.Connection, wanted: np.dtype) -> np.dtype:
        """What a content holds, as a structured type; ``wanted`` in a new store."""
        row = database.execute("SELECT layout, sums FROM about").fetchone()
        if row is None:
            return wanted
        if row[1] != database.execute(_SUMS).fetchone()[0]:
            raise DamagedDatabaseError("the checksum does not match")
        stored = np.dtype([(name, kind, tuple(shape)) for name, kind, shape in json.loads(row[0])])
        shapes, wanted_shapes = _shapes(stored), _shapes(wanted)
        for name in sorted({*shapes, *wanted_shapes}):
            if shapes.get(name) != (shape := wanted_shapes.get(name)):
                raise PrivateStoreError(
                    f"private store {self._file} holds no {name!r} of shape {shape}: it belongs "
                    "to another configuration; use another run.name"
                )
        return stored

    def _read(
        self, database: sqlite3.Connection, users: np.ndarray, found: np.ndarray, layout: np.dtype
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places in ``users`` and contents of the versions found, checked, some at a time."""
        order = np.argsort(users)
        places = order[np.searchsorted(users, found["user"].view(np.uint64), sorter=order)]
        cursor = database.execute(
            "SELECT checksum, content FROM json_each(?) AS chosen CROSS JOIN versions "
            "WHERE versions.id = chosen.value ORDER BY chosen.key",
            (json.dumps(found["id"].tolist()),),
        )
        for first in range(0, len(found), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            checksums, contents = zip(*cursor.fetchmany(_AT_ONCE), strict=True)
            if checksums != tuple(map(zlib.crc32, contents)):
                raise DamagedDatabaseError("the checksum does not match")
            rows = np.frombuffer(b"".join(contents), layout)
            if any((rows[name].view(np.int64) != found[name][part]).any() for name in _KEYS):
                raise DamagedDatabaseError("a version lies under another key")
            yield places[part], rows

    def _refuse_segments(self) -> None:
        if not self._file.exists() and any(self.folder.glob("round-*.safetensors")):
            raise PrivateStoreError(
                f"private store {self.folder} holds round-*.safetensors of an earlier release, "
                "which is not read any more: use another run.name, or that release"
            )

    def _damaged(self, why: str) -> PrivateStoreError:
        return PrivateStoreError(
            f"private store {self._file} is damaged ({why}): restore it from a backup, or remove "
            "it to let its users start anew"
        )


def _versions(database: sqlite3.Connection, users: np.ndarray) -> np.ndarray:
    """Every stored version of ``users``, by user, each user's oldest first."""
    found = database.execute(
        "SELECT versions.id, user, epoch, round FROM json_each(?) AS asked CROSS JOIN versions "
        "WHERE user = asked.value",
        (json.dumps(users.view(np.int64).tolist()),),
    ).fetchall()
    return np.array(found, dtype=[(name, np.int64) for name in ("id", *_KEYS)])


def _last_of_each(versions: np.ndarray) -> np.ndarray:
    """Each user's newest of ``versions``."""
    ordered = versions[np.lexsort([versions[name] for name in reversed(_KEYS)])]
    users = ordered["user"]
    return ordered[np.append(users[1:] != users[:-1], True)] if len(users) else ordered


def _layout_of(parameters: Mapping[str, Tensor], routes: np.ndarray) -> np.dtype:
    """What the content of one version holds: its key, the routes, and each array."""
    arrays = [(name, str(v.numpy().dtype), v.shape[1:]) for name, v in parameters.items()]
    keys = [("user", "<u8"), ("epoch", "<i8"), ("round", "<i8")]
    return np.dtype([*keys, ("routes", "<i8", routes.shape[1:]), *arrays])


def _as_json(layout: np.dtype) -> str:
    fields = (layout.fields or {}).items()
    return json.dumps([(name, kind[0].base.str, kind[0].shape) for name, kind in fields])


def _shapes(layout: np.dtype) -> dict[str, tuple[int, ...]]:
    return {name: kind[0].shape for name, kind in (layout.fields or {}).items()}

"""Private parameters on the node's disk: keyed by user, versioned by round, safe against crashes.

The folder holds one SQLite database, which has every version of a user's parameters that somebody
may still ask for. A save is one transaction, so a crash leaves the old or the new versions, never
a mixture.

Which version counts depends on the run, not on the file's age. A run that is resumed from a
checkpoint starts a new epoch at that round; versions of later rounds of earlier epochs never
happened. Where a run goes on from another one, users whom it has not trained yet have their
parameters of that one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from client_app.chunks import ENTRY, NOT_STORED, SCHEMA, Chunks, oldest_first, record_of
from mrff.io.sqlite import DamagedDatabaseError, opened, transaction

FILE = "private.sqlite"
_END = np.iinfo(np.int64).max


class PrivateStoreError(ValueError):
    """The store cannot be read or written; training must not go on from nothing."""


class PrivateStore:
    """Reads and writes the private parameters of one node's users.

    Args:
        folder: of this node and this training; made when first written to.
        epoch_starts: the round each epoch of the run started after; ``(0,)``: never resumed.
        earlier: stores of runs that this one goes on from, each with its last round that counts;
            the latest first.
    """

    def __init__(
        self,
        folder: Path,
        epoch_starts: Sequence[int] = (0,),
        earlier: Sequence[tuple[PrivateStore, int]] = (),
    ) -> None:
        self.folder, self._before = folder, earlier
        self._file = folder / FILE
        # The last round of each epoch that counts: where the next one started, or a later one.
        starts = np.array([*epoch_starts[1:], _END])
        self._ends = np.minimum.accumulate(starts[::-1])[::-1]

    def load(
        self, users: np.ndarray, *, up_to_round: int, initial: Mapping[str, Tensor], num_layers: int
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Each user's newest version of a round <= ``up_to_round``, or of an earlier run.

        Those without have ``initial``.

        Args:
            users: (U,) uint64 user keys.
            initial: (1, ...) each, a new user's parameters.
            num_layers: width of the routes.

        Returns:
            Parameters (U, ...) and the routes of that version (U, layers), -1 where there is none.

        Raises:
            PrivateStoreError: the store is damaged or belongs to another network.
        """
        parameters = {n: v.new_empty((len(users), *v.shape[1:])) for n, v in initial.items()}
        routes = np.empty((len(users), num_layers), dtype=np.int64)
        arrays = {"routes": routes} | {name: v.numpy() for name, v in parameters.items()}
        new = np.ones(len(users), dtype=bool)
        self._read(users, new, up_to_round, arrays)
        routes[new] = -1
        for name, values in initial.items():
            arrays[name][new] = values.numpy()
        for store, last_round in self._before:
            if new.any():
                store._read(users, new, last_round, arrays, as_far_as_they_fit=True)
        return parameters, routes

    def _read(
        self,
        users: np.ndarray,
        wanted: np.ndarray,
        up_to_round: int,
        arrays: Mapping[str, np.ndarray],
        *,
        as_far_as_they_fit: bool = False,
    ) -> None:
        """Fills the rows of ``wanted`` (U,) users who are stored here, and takes these out of it.

        Args:
            as_far_as_they_fit: arrays that another objective has, and this run not, are left out.
        """
        self._refuse_segments()
        if not self._file.exists():
            return
        with self._errors("read"), opened(self._file) as database:
            database.execute("BEGIN")  # one state of the store, whoever writes meanwhile
            chunks = self._chunks(database, arrays, check=not as_far_as_they_fit)
            rows = np.flatnonzero(wanted)
            asked = places_in(users[rows], chunks.entries["user"])
            newest = self._newest(chunks.entries, asked, up_to_round)
            stored, places = _shapes(chunks.record), rows[asked[newest]]
            fitting = {n: a for n, a in arrays.items() if stored.get(n) == a.shape[1:]}
            chunks.read(chunks.entries[newest], places, fitting)
            wanted[places] = False

    def save(
        self,
        users: np.ndarray,
        parameters: Mapping[str, Tensor],
        routes: np.ndarray,
        *,
        round_number: int,
        keep_up_to: Sequence[int],
    ) -> None:
        """Adds the version of ``round_number`` for ``users``; removes theirs no one can ask for.

        Still needed are each user's newest version and the one before this round (the round may
        be retried).

        Args:
            keep_up_to: rounds; each user's newest version up to each of them stays as well. They
                are the last checkpoint's (the run may be resumed there) and the best one (the run
                leaves that model).

        Raises:
            PrivateStoreError: the folder cannot be written to; nothing stored before is lost.
        """
        self._refuse_segments()
        if not len(users):
            return
        arrays = {"routes": routes} | {name: v.numpy() for name, v in parameters.items()}
        new = np.zeros(len(users), ENTRY)
        new["user"], new["epoch"], new["round"] = users, len(self._ends) - 1, round_number
        new["chunk"] = NOT_STORED
        way_out = "; free space or choose another state-dir"
        with (
            self._errors("written", way_out),
            opened(self._file, SCHEMA) as database,
            transaction(database),
        ):
            chunks = self._chunks(database, arrays)
            limits = (_END, round_number - 1, *keep_up_to)
            chunks.write(self._needless(chunks.entries, new, limits), new, arrays)

    def _needless(self, old: np.ndarray, new: np.ndarray, limits: Sequence[int]) -> np.ndarray:
        """Versions of the same users that nobody can ask for any more, once the new are there."""
        both = oldest_first(np.concatenate([old, new]))  # of one round, the new come last
        asked = places_in(new["user"], both["user"])
        # Epochs after this run's belong to a run that was resumed meanwhile.
        needless = (asked >= 0) & (both["epoch"] < len(self._ends)) & (both["chunk"] != NOT_STORED)
        for limit in limits:
            needless[self._newest(both, asked, limit)] = False
        return both[needless]

    def _newest(self, entries: np.ndarray, asked: np.ndarray, limit: int) -> np.ndarray:
        """Where in ``entries`` each user's newest version of a round <= ``limit`` is.

        Args:
            entries: (V,) the oldest first.
            asked: (V,) the user's number, -1 for others.
        """
        ends = self._ends[np.minimum(entries["epoch"], len(self._ends) - 1)]
        happened = (entries["epoch"] < len(self._ends)) & (entries["round"] <= ends)
        found = np.flatnonzero(happened & (entries["round"] <= limit) & (asked >= 0))
        newest = np.full(asked.max(initial=-1) + 1, -1)
        newest[asked[found]] = found  # the last one stays
        return newest[newest >= 0]

    def _chunks(
        self, database: sqlite3.Connection, arrays: Mapping[str, np.ndarray], *, check: bool = True
    ) -> Chunks:
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'versions'").fetchone():
            raise self._earlier(f"{FILE} has a row for each user")
        wanted = record_of(arrays)
        chunks = Chunks(database, wanted)
        shapes, wanted_shapes = _shapes(chunks.record), _shapes(wanted)
        for name in sorted({*shapes, *wanted_shapes}) if check else ():
            if shapes.get(name) != (shape := wanted_shapes.get(name)):
                raise PrivateStoreError(
                    f"private store {self._file} holds no {name!r} of shape {shape}: it belongs "
                    "to another configuration; use another run.name"
                )
        return chunks

    def _refuse_segments(self) -> None:
        if not self._file.exists() and any(self.folder.glob("round-*.safetensors")):
            raise self._earlier("round-*.safetensors")

    def _earlier(self, what: str) -> PrivateStoreError:
        return PrivateStoreError(
            f"private store {self.folder} holds {what} of an earlier release, "
            "which is not read any more: use another run.name, or that release"
        )

    @contextmanager
    def _errors(self, done: str, way_out: str = "") -> Iterator[None]:
        """Turns what went wrong in the database into one line about the store."""
        try:
            yield
        except DamagedDatabaseError as error:
            raise PrivateStoreError(
                f"private store {self._file} is damaged ({error}): restore it from a backup, or "
                "remove it to let its users start anew"
            ) from error
        except OSError as error:
            raise PrivateStoreError(
                f"private store {self._file} cannot be {done}: {error}{way_out}"
            ) from error


def _shapes(record: np.dtype) -> dict[str, tuple[int, ...]]:
    return {name: kind[0].shape for name, kind in (record.fields or {}).items()}


def places_in(users: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where each of ``others`` (n,) is among ``users`` (U,), which differ; -1 where it is not."""
    if not len(users):
        return np.full(len(others), -1)
    order = np.argsort(users)
    places = order[np.minimum(np.searchsorted(users, others, sorter=order), len(users) - 1)]
    return np.where(users[places] == others, places, -1)

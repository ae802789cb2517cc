"""Versions of users' parameters in a SQLite database, as many to a row as make a large blob.

A chunk is a row of records, each a version of a user with a checksum of its own. The keys lie in
another table, so that no record is read to find a version; one checksum covers all of them. A
version is forgotten by its key. What is left of a chunk that is half empty moves to another one,
and a chunk without a key is written anew, in place.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise

import numpy as np

from mrff.io.sqlite import DamagedDatabaseError

SCHEMA = """
PRAGMA page_size = 65536;
CREATE TABLE chunks (number INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TABLE contents (number INTEGER PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE about (
    id INTEGER PRIMARY KEY, record TEXT NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL
);
"""
KEY = np.dtype([("user", "<u8"), ("epoch", "<i4"), ("round", "<i4")])
ENTRY = np.dtype([*KEY.descr, ("chunk", "<i8"), ("place", "<i8")])
NOT_STORED = -1  # in the place of a chunk's number
CHUNK_BYTES = 2**18  # few calls for many users, and not much to read for one
_KEY = ("user", "epoch", "round")
_FORGOTTEN = np.array((0, 0, -1), KEY)


def record_of(arrays: Mapping[str, np.ndarray]) -> np.dtype:
    """What is stored of a version: a checksum, its key, and its row of each array."""
    rows = [(name, values.dtype.str, values.shape[1:]) for name, values in arrays.items()]
    return np.dtype([("checksum", "<u8"), *KEY.descr, *rows])


def oldest_first(entries: np.ndarray) -> np.ndarray:
    """Versions by epoch and round; those of the same round stay in their order."""
    ordered: np.ndarray = entries[np.lexsort((entries["round"], entries["epoch"]))]
    return ordered


class Chunks:
    """The versions in a database, while somebody reads or writes them.

    Attributes:
        record: what is stored of a version; the one given in a new database.
        entries: (V,) every version's key and place, the oldest first.

    Raises:
        DamagedDatabaseError: the keys are not what was written.
    """

    def __init__(self, database: sqlite3.Connection, record: np.dtype) -> None:
        self._database = database
        keys = database.execute("SELECT keys FROM chunks ORDER BY number")
        content = bytearray().join(of_chunk for (of_chunk,) in keys)
        about = database.execute("SELECT record, size, checksum FROM about").fetchone()
        new = (_as_json(record), max(1, CHUNK_BYTES // record.itemsize))
        self._about: tuple[str, int] = new if about is None else about[:2]
        if self._checksum(content) != (self._checksum(b"") if about is None else about[2]):
            raise DamagedDatabaseError("the checksum does not match")
        fields = [(name, kind, tuple(shape)) for name, kind, shape in json.loads(self._about[0])]
        self.record, self._size = np.dtype(fields), self._about[1]
        self._keys = np.frombuffer(content, KEY).reshape(-1, self._size)  # (chunks, size)
        entries = np.zeros(self._keys.shape, ENTRY)
        for name in _KEY:
            entries[name] = self._keys[name]
        entries["chunk"] = np.arange(len(entries))[:, None]
        entries["place"] = np.arange(self._size)
        self.entries = oldest_first(entries[self._known()])

    def read(
        self, entries: np.ndarray, places: np.ndarray, arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Copies what is stored of ``entries`` to these places of the arrays.

        Raises:
            DamagedDatabaseError: a record is not what was written.
        """
        order = np.lexsort((entries["place"], entries["chunk"]))
        entries, places = entries[order], places[order]
        starts = np.flatnonzero(np.diff(entries["chunk"], prepend=NOT_STORED))
        for first, end in pairwise([*starts.tolist(), len(entries)]):
            some = entries[first:end]
            rows = self._records(int(some["chunk"][0]), some["place"])
            if any((rows[name] != some[name]).any() for name in _KEY):
                raise DamagedDatabaseError("a version lies under another key")
            for name, values in arrays.items():
                values[places[first:end]] = rows[name]

    def write(self, gone: np.ndarray, keys: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Forgets the versions ``gone`` and adds those of ``keys``, a row of each array to each."""
        left = self._forget(gone)
        moved = (left[part] for part in self._slices(left))
        chunks = self._free(len(self._slices(left)) + len(self._slices(keys)))
        for chunk, rows in zip(chunks, chain(moved, self._new(keys, arrays)), strict=True):
            for name in _KEY:
                self._keys[name][chunk, : len(rows)] = rows[name]
            row = (chunk, rows.view(np.uint8).data)
            self._database.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", row)
        self._database.executemany(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?)",
            ((chunk, self._keys[chunk].data) for chunk in {*gone["chunk"].tolist(), *chunks}),
        )
        checksum = self._checksum(self._keys.view(np.uint8).data)
        about = (*self._about, checksum)
        self._database.execute("INSERT OR REPLACE INTO about VALUES (0, ?, ?, ?)", about)

    def _forget(self, gone: np.ndarray) -> np.ndarray:
        """Takes these versions out, and what is left of chunks that are half empty now.

        Returns:
            The records of the latter, which are still needed.
        """
        self._keys[gone["chunk"], gone["place"]] = _FORGOTTEN
        touched = np.unique(gone["chunk"])
        known = self._known()[touched]
        sparse = 2 * known.sum(axis=1) < self._size
        left = [
            self._records(int(chunk), np.flatnonzero(places))
            for chunk, places in zip(touched[sparse], known[sparse], strict=True)
            if places.any()
        ]
        self._keys[touched[sparse]] = _FORGOTTEN
        return np.concatenate([np.zeros(0, self.record), *left])

    def _free(self, count: int) -> list[int]:
        """Numbers of chunks without a key; new ones where there are too few."""
        free = np.flatnonzero(~self._known().any(axis=1))[:count].tolist()
        new = np.full((count - len(free), self._size), _FORGOTTEN)
        numbers = [*free, *range(len(self._keys), len(self._keys) + len(new))]
        self._keys = np.concatenate([self._keys, new])
        return numbers

    def _new(self, keys: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
        """Records, as many as fit a chunk; the next ones overwrite them."""
        records = np.zeros(self._size, self.record)
        for part in self._slices(keys):
            rows = records[: len(keys[part])]
            for name in _KEY:
                rows[name] = keys[name][part]
            for name, values in arrays.items():
                rows[name] = values[part]
            rows["checksum"] = _checksums(rows)
            yield rows

    def _records(self, chunk: int, places: np.ndarray) -> np.ndarray:
        """Records of a chunk at ascending places, checked."""
        first, end, size = int(places[0]), int(places[-1]) + 1, self.record.itemsize
        with self._database.blobopen("contents", "records", chunk, readonly=True) as blob:
            if len(blob) < end * size:
                raise DamagedDatabaseError("a chunk is too short")
            blob.seek(first * size)
            rows = np.frombuffer(blob.read((end - first) * size), self.record)[places - first]
        if (rows["checksum"] != _checksums(rows)).any():
            raise DamagedDatabaseError("the checksum does not match")
        return rows

    def _checksum(self, keys: bytes | bytearray | memoryview) -> int:
        """Of the keys of all chunks and of what is said about them."""
        return zlib.crc32(keys, zlib.crc32(repr(self._about).encode()))

    def _known(self) -> np.ndarray:
        """(chunks, size) where there is a version."""
        known: np.ndarray = self._keys["round"] != _FORGOTTEN["round"]
        return known

    def _slices(self, values: np.ndarray) -> list[slice]:
        size = self._size
        return [slice(first, first + size) for first in range(0, len(values), size)]


def _checksums(records: np.ndarray) -> np.ndarray:
    """(n,) of what follows the checksum: its 32-bit words times the powers of an odd number."""
    words = records.view("<u4").reshape(len(records), -1)[:, 2:]
    # 5 modulo 8, so that its powers repeat after 2**62: the sum tells any change of one word, an
    # exchange of two, and the same bit flipped in two.
    factor = np.uint64(0x9E3779B97F4A7C15)
    powers = np.cumprod(np.full(words.shape[1], factor))
    sums: np.ndarray = np.einsum("ij,j->i", words, powers)
    return sums


def _as_json(record: np.dtype) -> str:
    fields = (record.fields or {}).items()
    return json.dumps([(name, kind[0].base.str, kind[0].shape) for name, kind in fields])

"""Rows of the ledger, each with the hash of the one before, and what they say of users."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from mrff.privacy.accounting import Release, merged

CHAINS = np.uint64(64)
GENESIS = "0" * 64
UNKNOWN = "unknown"  # the unit of imported rows, which did not note it: counted for either
SCHEMA = """
CREATE TABLE releases (
    population TEXT NOT NULL, chain INTEGER NOT NULL, number INTEGER NOT NULL, users BLOB NOT NULL,
    unit TEXT NOT NULL, mechanism TEXT NOT NULL, parameters TEXT NOT NULL, steps INTEGER NOT NULL,
    run TEXT, round INTEGER, previous TEXT NOT NULL, PRIMARY KEY (population, chain, number)
);
CREATE TABLE imported (file TEXT NOT NULL, last TEXT NOT NULL, PRIMARY KEY (file, last));
"""
History = tuple[Release, ...]


class ReleaseRow(NamedTuple):
    """What was released of some users of one chain; the columns of the table ``releases``."""

    population: str
    chain: int
    number: int  # from 1
    users: bytes  # their keys in ascending order, 8 bytes each, the low byte first
    unit: str
    mechanism: str
    parameters: str  # of the release, in JSON
    steps: int
    run: str | None
    round: int | None
    previous: str  # hash of the row before

    def hash(self) -> str:
        """Of everything in the row."""
        fields = [value for name, value in self._asdict().items() if name != "users"]
        return sha256(json.dumps(fields).encode() + self.users).hexdigest()


_SELECT = (
    f"SELECT {', '.join(ReleaseRow._fields)} FROM releases "
    "WHERE population = ? AND chain IN (SELECT value FROM json_each(?)) ORDER BY chain, number"
)
_INSERT = f"INSERT INTO releases VALUES ({', '.join('?' * len(ReleaseRow._fields))})"


class Chains:
    """What was read of some chains of a population, and checked."""

    def __init__(self, population: str, chains: Iterable[int]) -> None:
        self.ends = dict.fromkeys(chains, (0, GENESIS))  # rows and last hash of each
        self._population = population
        self._parts: dict[Release, list[tuple[np.ndarray, int]]] = {}  # users and steps, by kind

    def rows(self, database: sqlite3.Connection) -> Iterator[ReleaseRow]:
        """All rows of these chains, in their order."""
        asked = (self._population, json.dumps(list(self.ends)))
        return map(ReleaseRow._make, database.execute(_SELECT, asked))

    def take(self, row: ReleaseRow, unit: str) -> None:
        """Reads the next row of its chain; one of another unit says nothing of users.

        Raises:
            ValueError: it does not follow the row before, or cannot be read.
        """
        where = f"row {row.number} of chain {row.chain}"
        count, last = self.ends[row.chain]
        if (row.number, row.previous) != (count + 1, last):
            raise ValueError(f"{where} does not follow the one before")
        try:
            self.ends[row.chain] = row.number, row.hash()
            parameters = json.loads(row.parameters)
            release = Release(**parameters, steps=row.steps, mechanism=row.mechanism)  # type: ignore[arg-type]
            if row.unit in (unit, UNKNOWN):
                part = np.frombuffer(row.users, "<u8"), row.steps
                self._parts.setdefault(replace(release, steps=1), []).append(part)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error

    def add(
        self,
        database: sqlite3.Connection,
        keys: np.ndarray,
        release: Release,
        unit: str,
        about: Mapping[str, Any],
    ) -> None:
        """Puts a row at the end of each chain of ``keys``, which are ascending."""
        fields = asdict(release)
        steps, mechanism = fields.pop("steps"), fields.pop("mechanism")
        for chain in np.unique(keys % CHAINS).tolist():
            count, last = self.ends[chain]
            users = keys[keys % CHAINS == chain].astype("<u8").tobytes()
            row = ReleaseRow(
                self._population, chain, count + 1, users, unit, mechanism, json.dumps(fields),
                steps, about.get("training"), about.get("round"), last,
            )  # fmt: skip
            database.execute(_INSERT, row)
            self.ends[chain] = row.number, row.hash()

    def users(self) -> list[int]:
        """Keys of everybody of whom something was released, ascending."""
        everybody = [keys for parts in self._parts.values() for keys, _ in parts]
        users: list[int] = np.unique(np.concatenate([np.zeros(0, np.uint64), *everybody])).tolist()
        return users

    def dearest(self, users: np.ndarray) -> list[History]:
        """What was released of ``users`` (U,) ascending keys; histories within another left out.

        Costs grow with steps: the dearest user is among those that stay.
        """
        steps = np.zeros((len(users), len(self._parts)), np.int64)
        for column, parts in enumerate(self._parts.values()):
            keys = np.concatenate([keys for keys, _ in parts])
            counts = np.repeat([count for _, count in parts], [len(keys) for keys, _ in parts])
            asked = np.isin(keys, users)
            np.add.at(steps[:, column], np.searchsorted(users, keys[asked]), counts[asked])
        rows = np.unique(steps, axis=0)
        return [
            merged(replace(kind, steps=int(n)) for kind, n in zip(self._parts, row, strict=True))
            for row in rows
            if (rows >= row).all(axis=1).sum() == 1  # it is within itself only
        ]

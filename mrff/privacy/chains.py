"""Rows of the ledger, each with the hash of the one before, and what they say of users."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from mrff.io.sqlite import transaction
from mrff.privacy.accounting import Release, merged

CHAINS = np.uint64(64)
_EMPTY = (0, "0" * 64)  # rows and last hash of a chain without any
UNKNOWN = "unknown"  # the unit of imported rows, which did not note it: counted for either
SCHEMA = """
CREATE TABLE releases (
    population TEXT NOT NULL, chain INTEGER NOT NULL, number INTEGER NOT NULL, users BLOB NOT NULL,
    unit TEXT NOT NULL, mechanism TEXT NOT NULL, parameters TEXT NOT NULL, steps INTEGER NOT NULL,
    run TEXT, round INTEGER, previous TEXT NOT NULL, PRIMARY KEY (population, chain, number)
);
CREATE TABLE imported (file TEXT NOT NULL, last TEXT NOT NULL, PRIMARY KEY (file, last));
"""
_ADDED = (  # since version 1; a ledger of an earlier release gets them when it is opened
    """CREATE TABLE ends (population TEXT NOT NULL, chain INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (population, chain))""",
    "CREATE TABLE names (name TEXT PRIMARY KEY, people TEXT NOT NULL)",
    "INSERT INTO ends SELECT population, chain, MAX(number) FROM releases GROUP BY 1, 2",
    "PRAGMA user_version = 1",
)
History = tuple[Release, ...]
Heads = dict[str, dict[str, tuple[int, str]]]  # rows and last hash, by population and chain


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
    "WHERE population IN (SELECT value FROM json_each(?)) "
    "AND chain IN (SELECT value FROM json_each(?)) ORDER BY population, chain, number"
)
_ENDS = _SELECT.replace(", ".join(ReleaseRow._fields), "population, chain, number").replace(
    "releases", "ends"
)
_SET_END = "INSERT OR REPLACE INTO ends VALUES (?, ?, ?)"
_INSERT = f"INSERT INTO releases VALUES ({', '.join('?' * len(ReleaseRow._fields))})"


def upgrade(database: sqlite3.Connection) -> None:
    """Adds what a ledger of an earlier release lacks."""
    asked = "PRAGMA user_version"
    if database.execute(asked).fetchone()[0]:
        return
    with transaction(database):
        if not database.execute(asked).fetchone()[0]:  # nobody else was faster
            for statement in _ADDED:
                database.execute(statement)


class Chains:
    """What was read of some chains of a population, and checked.

    Args:
        names: of the population; new rows go under the first.
        users: (U,) keys: their chains; None: all chains.
        run: reads this run's rows only; None: all.
    """

    def __init__(
        self, names: Sequence[str], users: np.ndarray | None, run: str | None = None
    ) -> None:
        chains = range(int(CHAINS)) if users is None else np.unique(users % CHAINS).tolist()
        # Rows and last hash of each.
        self.ends = dict.fromkeys(product(names, chains), _EMPTY)
        self._names, self._run = names, run
        self._parts: dict[Release, list[tuple[np.ndarray, int]]] = {}  # users and steps, by kind
        self._apart: list[tuple[np.ndarray, str]] = []  # users of other units' rows

    def read(self, database: sqlite3.Connection, unit: str, heads: Heads) -> None:
        """All rows of these chains: each after the one before it, up to the head and the end.

        Args:
            heads: read before the transaction: a head is written after its rows.

        Raises:
            ValueError: they are not what was written.
        """
        asked = json.dumps(self._names), json.dumps(sorted({chain for _, chain in self.ends}))
        known = {key: heads.get(key[0], {}).get(str(key[1]), _EMPTY) for key in self.ends}
        at_head = dict(self.ends)
        for row in map(ReleaseRow._make, database.execute(_SELECT, asked)):
            self._take(row, unit)
            key = row.population, row.chain
            if known[key][0] == row.number:
                at_head[key] = self.ends[key]
        for key, (count, _) in self.ends.items():
            if at_head[key] != known[key]:
                raise ValueError(
                    f"chain {key[1]} has {count} rows, its head knows {known[key][0]} with another "
                    "end"
                )
        for population, chain, number in database.execute(_ENDS, asked):
            if (count := self.ends[population, chain][0]) != number:
                raise ValueError(f"chain {chain} has {count} rows where {number} were written")

    def _take(self, row: ReleaseRow, unit: str) -> None:
        """Reads the next row of its chain; one of another unit is kept apart.

        Raises:
            ValueError: it does not follow the row before, or cannot be read.
        """
        where, key = f"row {row.number} of chain {row.chain}", (row.population, row.chain)
        count, last = self.ends[key]
        if (row.number, row.previous) != (count + 1, last):
            raise ValueError(f"{where} does not follow the one before")
        try:
            self.ends[key] = row.number, row.hash()
            parameters = json.loads(row.parameters)
            release = Release(**parameters, steps=row.steps, mechanism=row.mechanism)  # type: ignore[arg-type]
            users = np.frombuffer(row.users, "<u8")
            if row.unit != unit:
                self._apart.append((users, row.unit))
            if row.unit in (unit, UNKNOWN) and self._run in (None, row.run):
                kind = replace(release, steps=1)
                self._parts.setdefault(kind, []).append((users, row.steps))
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
        if not release.predictable:
            del fields["predictable"]  # as rows were always written
        population = self._names[0]
        for chain in np.unique(keys % CHAINS).tolist():
            key = population, chain
            count, last = self.ends[key]
            users = keys[keys % CHAINS == chain].astype("<u8").tobytes()
            row = ReleaseRow(
                *key, count + 1, users, unit, mechanism, json.dumps(fields),
                steps, about.get("training"), about.get("round"), last,
            )  # fmt: skip
            database.execute(_INSERT, row)
            database.execute(_SET_END, (*key, row.number))
            self.ends[key] = row.number, row.hash()

    def add_to(self, heads: Heads) -> None:
        """Puts the ends of these chains into ``heads``."""
        for (name, chain), end in self.ends.items():
            if end != _EMPTY:
                heads.setdefault(name, {})[str(chain)] = end

    def units_apart(self, users: np.ndarray) -> list[str]:
        """The units of rows about ``users`` that are of another unit, or of an unknown one."""
        return sorted({unit for keys, unit in self._apart if np.isin(keys, users).any()})

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

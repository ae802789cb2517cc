"""The ledger: what was released of whom, for ever. Append-only, crash-safe, tamper-evident.

    ledger.sqlite   a row for each release, with the hash of the row before
    ledger.head     number of rows and last hash of each chain, replaced after every append

A row is durable before anything is released under it: a crash counts too much, never too little.
A changed, removed or reordered row breaks its chain; a removed end disagrees with the head; a lost
file disagrees with the one that is left. Then nothing may be trained: a ledger is never begun anew.
Whoever may delete the whole folder can make it forget; no file can prevent that.

The users of a population lie in 64 chains by their keys. Who asks about some users reads and checks
their chains only, so that many nodes of one simulation can share the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mrff.io.files import write_json
from mrff.io.sqlite import DamagedDatabaseError, opened, transaction
from mrff.privacy.accounting import Limit, Release, merged
from mrff.privacy.earlier_ledger import earlier_ledgers, read_earlier
from mrff.privacy.histories import Histories, History, highest_epsilon

CHAINS = np.uint64(64)
SCHEMA = """
CREATE TABLE releases (
    population TEXT NOT NULL, chain INTEGER NOT NULL, number INTEGER NOT NULL,
    users BLOB NOT NULL,  -- their keys in ascending order, 8 bytes each, the low byte first
    unit TEXT NOT NULL, mechanism TEXT NOT NULL, parameters TEXT NOT NULL, steps INTEGER NOT NULL,
    run TEXT, round INTEGER, previous TEXT NOT NULL, PRIMARY KEY (population, chain, number)
);
CREATE TABLE imported (file TEXT NOT NULL, last TEXT NOT NULL, PRIMARY KEY (file, last));
"""
_GENESIS = "0" * 64
_UNKNOWN = "unknown"  # the unit of imported rows, which did not note it: counted for either
Key = int  # of a user; 0 for a whole dataset
Ends = dict[int, tuple[int, str]]  # rows and last hash of each chain


class LedgerError(ValueError):
    """The ledger cannot be trusted or written: nothing may be released."""


class BudgetExceededError(ValueError):
    """The next release would cost more than the budget has left; it was not made."""


class _Chains:
    """What was read of some chains, and checked."""

    def __init__(self, chains: Iterable[int]) -> None:
        self.ends: Ends = dict.fromkeys(chains, (0, _GENESIS))
        self.histories = Histories()


class Ledger:
    """What was released of each user of one population.

    Args:
        folder: holds the ledgers of all populations; made when first written to.
        population: hash of the data that the users come from.
        unit: what one guarantee protects, ``user`` or ``record``. Releases of another unit stand
            beside it and are never added to it.
    """

    def __init__(self, folder: Path, population: str, unit: str) -> None:
        self.path = folder / "ledger.sqlite"
        self._head, self._lock = folder / "ledger.head", folder / "ledger.lock"
        self._population, self._unit = population, unit

    def users(self) -> list[Key]:
        """Everybody of whom something was released; reads and checks all chains.

        Raises:
            LedgerError: what is there is damaged.
        """
        users: list[Key] = self._read(range(int(CHAINS))).histories.users().tolist()
        return users

    def releases(self, user: Key) -> History:
        """Everything released of ``user``."""
        (history,) = self._histories([user])
        return history

    def epsilon(self, users: Iterable[Key], limit: Limit, extra: Iterable[Release] = ()) -> float:
        """The highest epsilon of any of ``users``, with ``extra`` releases counted too."""
        return _highest(self._histories(users), limit, tuple(extra))

    def check(self, users: Iterable[Key], release: Release, limit: Limit) -> None:
        """Whether ``release`` of all ``users`` stays within the budget.

        Raises:
            BudgetExceededError: it does not; the message has the numbers.
        """
        if limit.epsilon > 0.0:
            self._check(self._histories(users), release, limit)

    def append(
        self,
        users: Iterable[Key],
        release: Release,
        about: Mapping[str, Any],
        limit: Limit | None = None,
    ) -> None:
        """Notes ``release`` of all ``users``, or of none; durable when it returns.

        Args:
            about: the ``training`` and the ``round`` that it was for.
            limit: checked while nobody else can write: two runs that start at once cannot both
                take the last of a budget.

        Raises:
            BudgetExceededError: see `check`; nothing was written.
            LedgerError: it cannot be written, or changed meanwhile in a way it must not.
        """
        keys = _ascending(users)
        if not len(keys):
            return
        self._import_earlier()
        with self._writing() as database:
            with transaction(database):
                chains = self._checked(database, keys % CHAINS)
                if limit is not None and limit.epsilon > 0.0:
                    self._check(chains.histories.of(keys), release, limit)
                where = (self._unit, about.get("training"), about.get("round"))
                self._add(database, chains.ends, keys, release, where)
            self._write_head(chains.ends)

    def _check(self, histories: set[History], release: Release, limit: Limit) -> None:
        quick = replace(limit, accountant="rdp")  # bounds the other from above
        if _highest(histories, quick, [release]) <= limit.epsilon:
            return
        after = _highest(histories, limit, [release])
        if after > limit.epsilon:
            raise BudgetExceededError(
                f"the privacy budget does not allow this round: it would bring epsilon from "
                f"{_highest(histories, limit):.4f} to {after:.4f} at delta={limit.delta:g}, above "
                f"epsilon-budget={limit.epsilon:g} ({release.steps} step(s) with noise-multiplier "
                f"{release.noise_multiplier:g} at sampling rate {release.sampling_rate:g}, "
                f"accountant {limit.accountant}; ledger {self.path})"
            )

    def _histories(self, users: Iterable[Key]) -> set[History]:
        keys = _ascending(users)
        return self._read(keys % CHAINS).histories.of(keys)

    def _read(self, chains: Iterable[int]) -> _Chains:
        self._import_earlier()
        try:
            if not self.path.exists() and not self._heads():
                return _Chains(())
            with opened(self.path) as database:
                return self._checked(database, chains)
        except OSError as error:
            raise self._broken(f"it cannot be read: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The database while nobody else appends; the head's file is there before it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock, timeout=60):
                if not self.path.exists():
                    if self._heads():
                        raise self._broken(f"{self.path.name} is missing")
                    write_json(self._head, {})
                with opened(self.path, SCHEMA) as database:
                    yield database
        except DamagedDatabaseError as error:
            raise self._broken(f"it cannot be read: {error}") from error
        except OSError as error:
            raise LedgerError(
                f"privacy ledger {self.path} cannot be written ({error}); nothing is released "
                "without an entry: free space, or restore access"
            ) from error

    def _checked(self, database: sqlite3.Connection, chains: Iterable[int]) -> _Chains:
        """The rows of ``chains``, each after the one before it and all up to the head."""
        wanted = sorted({int(chain) for chain in chains})
        if not self._head.exists():
            raise self._broken(f"{self._head.name} is missing")
        heads = self._heads().get(self._population, {})  # before the rows: writers do them first
        found = _Chains(wanted)
        rows = database.execute(
            "SELECT chain, number, users, unit, mechanism, parameters, steps, run, round, previous "
            "FROM releases WHERE population = ? AND chain IN (SELECT value FROM json_each(?)) "
            "ORDER BY chain, number",
            (self._population, json.dumps(wanted)),
        )
        at_head = dict(found.ends)
        for row in rows:
            count, last = found.ends[row[0]]
            if row[1] != count + 1 or row[-1] != last:
                raise self._broken(f"row {row[1]} of chain {row[0]} does not follow the one before")
            self._take(found, row)
            if heads.get(str(row[0]), (0,))[0] == count + 1:
                at_head[row[0]] = found.ends[row[0]]
        for chain in wanted:
            head = tuple(heads.get(str(chain), (0, _GENESIS)))
            if at_head[chain] != head:
                raise self._broken(
                    f"chain {chain} has {found.ends[chain][0]} rows, its head knows {head[0]} with "
                    "another end"
                )
        return found

    def _take(self, found: _Chains, row: tuple[Any, ...]) -> None:
        chain, number, users, unit, mechanism, parameters, steps, *_ = row
        try:
            found.ends[chain] = number, _hash(self._population, row)
            release = Release(**json.loads(parameters), steps=steps, mechanism=mechanism)
            if unit in (self._unit, _UNKNOWN):
                found.histories.add(np.frombuffer(users, "<u8"), release)
        except (ValueError, TypeError) as error:
            raise self._broken(f"row {number} of chain {chain} cannot be read: {error}") from error

    def _add(
        self,
        database: sqlite3.Connection,
        ends: Ends,
        keys: np.ndarray,
        release: Release,
        where: tuple[str, str | None, int | None],
    ) -> None:
        """Puts a row at the end of each chain of ``keys``; ``ends`` move on."""
        unit, run, number = where
        fields = asdict(release)
        steps, mechanism = fields.pop("steps"), fields.pop("mechanism")
        for chain in np.unique(keys % CHAINS).tolist():
            users = keys[keys % CHAINS == chain].astype("<u8").tobytes()
            count, last = ends[chain]
            row = (
                chain, count + 1, users, unit, mechanism, json.dumps(fields), steps, run, number,
                last,
            )  # fmt: skip
            database.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._population, *row),
            )
            ends[chain] = count + 1, _hash(self._population, row)

    def _heads(self) -> dict[str, dict[str, tuple[int, str]]]:
        """The ends of all chains of all populations, as the last append left them."""
        try:
            heads: dict[str, Any] = json.loads(self._head.read_bytes())
            return {
                name: {chain: (int(n), str(last)) for chain, (n, last) in chains.items()}
                for name, chains in heads.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._broken(f"{self._head.name} cannot be read: {error}") from error

    def _write_head(self, ends: Ends) -> None:
        heads = self._heads()
        chains = heads.get(self._population, {}) | {str(chain): end for chain, end in ends.items()}
        write_json(self._head, heads | {self._population: chains})

    def _import_earlier(self) -> None:
        """Takes in, in one transaction, what earlier releases noted of this population."""
        folder = self.path.parent
        if not earlier_ledgers(folder, self._population):
            return
        with self._writing() as database:
            try:
                paths = earlier_ledgers(folder, self._population)
                earlier = [read_earlier(path, self._population) for path in paths]
            except ValueError as error:
                raise self._broken(str(error)) from error
            with transaction(database):
                ends = self._checked(database, range(int(CHAINS))).ends
                for ledger in earlier:
                    mark = (str(ledger.path.relative_to(folder)), ledger.last)
                    done = "SELECT 1 FROM imported WHERE file = ? AND last = ?"
                    if database.execute(done, mark).fetchone():
                        continue  # a crash came before the file was set aside
                    for entry in ledger.entries:
                        where = (_UNKNOWN, entry.run, entry.round)
                        self._add(database, ends, _ascending(entry.users), entry.release, where)
                    database.execute("INSERT INTO imported VALUES (?, ?)", mark)
            self._write_head(ends)
            for ledger in earlier:
                ledger.set_aside()

    def _broken(self, why: str) -> LedgerError:
        return LedgerError(
            f"privacy ledger {self.path} cannot be trusted: {why}. Nothing is trained on this data "
            "until the ledger is restored from a backup; it is never begun anew"
        )


def _ascending(users: Iterable[Key]) -> np.ndarray:
    return np.unique(np.fromiter(users, np.uint64))


def _hash(population: str, row: tuple[Any, ...]) -> str:
    chain, number, users, *rest = row
    return sha256(json.dumps([population, chain, number, *rest]).encode() + users).hexdigest()


def _highest(histories: set[History], limit: Limit, extra: Iterable[Release] = ()) -> float:
    """The highest epsilon of any history, with ``extra`` releases counted too."""
    longer = {merged([*history, *extra]) for history in histories}
    return highest_epsilon(longer, limit.delta, limit.accountant)

"""The ledger: what was released of whom, for ever. Append-only, crash-safe, tamper-evident.

    ledger.sqlite   a row for each release, with the hash of the row before
    ledger.head     number of rows and last hash of each chain, replaced after every append

A row is durable before anything is released under it: a crash counts too much, never too little.
A changed, removed or reordered row breaks its chain; a removed end disagrees with the head; a chain
that is gone from both disagrees with the table of ends; a lost file disagrees with the one that is
left. Then nothing may be trained: a ledger is never begun anew. Whoever may delete the whole
folder, or writes rows, ends and head alike, can make it forget; no file can prevent that.

The users of a population lie in 64 chains by their keys. Who asks about some users reads and checks
their chains only, so that many nodes of one simulation can share the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mrff.io.files import write_json
from mrff.io.sqlite import DamagedDatabaseError, opened, transaction
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.chains import SCHEMA, UNKNOWN, Chains, Heads, History, upgrade
from mrff.privacy.earlier_ledger import earlier_ledgers, read_earlier, set_aside
from mrff.privacy.populations import all_names, join

Key = int  # of a user; 0 for a whole dataset


class LedgerError(ValueError):
    """The ledger cannot be trusted or written: nothing may be released."""


class BudgetExceededError(ValueError):
    """The next release would cost more than the budget has left; it was not made."""


class Ledger:
    """What was released of each user of one population.

    Args:
        folder: holds the ledgers of all populations; made when first written to.
        population: what the users' population is called, as `Schema.known_as` says: new entries go
            under the first name, entries under any name count.
        unit: what one guarantee protects, ``user`` or ``record``. Releases of another unit stand
            beside it and are never added to it.
    """

    def __init__(self, folder: Path, population: str | Sequence[str], unit: str) -> None:
        self.path = folder / "ledger.sqlite"
        self._head, self._lock = folder / "ledger.head", folder / "ledger.lock"
        self._names = [population] if isinstance(population, str) else list(population)
        self._unit = unit

    def users(self) -> list[Key]:
        """Everybody of whom something was released; reads and checks all chains.

        Raises:
            LedgerError: what is there is damaged.
        """
        return self._read(None).users()

    def releases(self, user: Key, run: str | None = None) -> History:
        """Everything released of ``user``, or what one run did, its rounds done again included."""
        keys = _ascending([user])
        (history,) = self._read(keys, run).dearest(keys)
        return history

    def units_apart(self, users: Iterable[Key]) -> list[str]:
        """The units of releases of ``users`` that are not added here, and ``unknown`` ones."""
        keys = _ascending(users)
        return self._read(keys).units_apart(keys)

    def epsilon(self, users: Iterable[Key], limit: Limit) -> float:
        """The highest epsilon of any of ``users``."""
        return _highest(self._histories(users), limit)

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
            join(database, self._names)
            with transaction(database):
                chains = Chains(all_names(database, self._names), keys)
                self._checked(database, chains, self._heads())
                if limit is not None and limit.epsilon > 0.0:
                    self._check(chains.dearest(keys), release, limit)
                chains.add(database, keys, release, self._unit, about)
            self._write_head(chains)

    def _check(self, histories: list[History], release: Release, limit: Limit) -> None:
        quick = replace(limit, accountant="rdp")  # bounds the other from above
        if _highest(histories, quick, release) <= limit.epsilon:
            return
        after = _highest(histories, limit, release)
        if after > limit.epsilon:
            raise BudgetExceededError(
                f"the privacy budget does not allow this round: it would bring epsilon from "
                f"{_highest(histories, limit):.4f} to {after:.4f} at delta={limit.delta:g}, above "
                f"epsilon-budget={limit.epsilon:g} ({release.steps} step(s) with noise-multiplier "
                f"{release.noise_multiplier:g} at sampling rate {release.sampling_rate:g}, "
                f"accountant {limit.accountant}; ledger {self.path})"
            )

    def _histories(self, users: Iterable[Key]) -> list[History]:
        keys = _ascending(users)
        return self._read(keys).dearest(keys)

    def _read(self, keys: np.ndarray | None, run: str | None = None) -> Chains:
        self._import_earlier()
        try:
            if not self.path.exists() and not self._heads():
                return Chains((), keys, run)
            with opened(self.path) as database:
                upgrade(database)
                heads = self._heads()  # before the rows: writers do them first
                database.execute("BEGIN")  # rows and ends of one moment; nothing is written
                names = all_names(database, self._names)
                return self._checked(database, Chains(names, keys, run), heads)
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
                    upgrade(database)
                    yield database
        except DamagedDatabaseError as error:
            raise self._broken(f"it cannot be read: {error}") from error
        except OSError as error:
            raise LedgerError(
                f"privacy ledger {self.path} cannot be written ({error}); nothing is released "
                "without an entry: free space, or restore access"
            ) from error

    def _checked(self, database: sqlite3.Connection, found: Chains, heads: Heads) -> Chains:
        """``found`` with its rows."""
        if not self._head.exists():
            raise self._broken(f"{self._head.name} is missing")
        try:
            found.read(database, self._unit, heads)
        except ValueError as error:
            raise self._broken(str(error)) from error
        return found

    def _heads(self) -> Heads:
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

    def _write_head(self, chains: Chains) -> None:
        heads = self._heads()
        chains.add_to(heads)
        write_json(self._head, heads)

    def _import_earlier(self) -> None:
        """Takes in what earlier releases noted of this population."""
        for path, name in earlier_ledgers(self.path.parent, self._names):
            with self._writing() as database:
                if path.with_suffix(".head").exists() or path.exists():  # nobody else was faster
                    self._import(database, path, name)

    def _import(self, database: sqlite3.Connection, path: Path, name: str) -> None:
        """Takes in a file, under the name that it has, in one transaction."""
        try:
            earlier = read_earlier(path, name)
        except ValueError as error:
            raise self._broken(str(error)) from error
        with transaction(database):
            chains = Chains([name], None)
            self._checked(database, chains, self._heads())
            mark = (str(path.relative_to(self.path.parent)), earlier.last)
            done = "SELECT 1 FROM imported WHERE file = ? AND last = ?"
            if not database.execute(done, mark).fetchone():  # a crash came before it was set aside
                for users, release, about in earlier.entries:
                    chains.add(database, _ascending(users), release, UNKNOWN, about)
                database.execute("INSERT INTO imported VALUES (?, ?)", mark)
        self._write_head(chains)
        set_aside(path)

    def _broken(self, why: str) -> LedgerError:
        return LedgerError(
            f"privacy ledger {self.path} cannot be trusted: {why}. Nothing is trained on this data "
            "until the ledger is restored from a backup; it is never begun anew"
        )


def _ascending(users: Iterable[Key]) -> np.ndarray:
    return np.unique(np.fromiter(users, np.uint64))


def _highest(histories: list[History], limit: Limit, *extra: Release) -> float:
    """The highest epsilon of any history, with ``extra`` releases counted too; 0 for none."""
    costs = (epsilon_of([*h, *extra], limit.delta, limit.accountant) for h in histories)
    return max(costs, default=0.0)

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mrff.io.files import write_json
from mrff.io.sqlite import DamagedDatabaseError, opened, transaction
from mrff.privacy.accounting import Limit, Release, epsilon_of
from mrff.privacy.chains import CHAINS, GENESIS, SCHEMA, UNKNOWN, Chains, History
from mrff.privacy.earlier_ledger import earlier_ledgers, read_earlier, set_aside

Key = int  # of a user; 0 for a whole dataset


class LedgerError(ValueError):
    """The ledger cannot be trusted or written: nothing may be released."""


class BudgetExceededError(ValueError):
    """The next release would cost more than the budget has left; it was not made."""


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
        return self._read(range(int(CHAINS))).users()

    def releases(self, user: Key) -> History:
        """Everything released of ``user``."""
        (history,) = self._histories([user])
        return history

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
            with transaction(database):
                chains = self._checked(database, keys % CHAINS)
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
        return self._read(keys % CHAINS).dearest(keys)

    def _read(self, chains: Iterable[int]) -> Chains:
        self._import_earlier()
        try:
            if not self.path.exists() and not self._heads():
                return Chains(self._population, ())
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

    def _checked(self, database: sqlite3.Connection, chains: Iterable[int]) -> Chains:
        """The rows of ``chains``, each after the one before it and all up to the head."""
        if not self._head.exists():
            raise self._broken(f"{self._head.name} is missing")
        heads = self._heads().get(self._population, {})  # before the rows: writers do them first
        found = Chains(self._population, sorted({int(chain) for chain in chains}))
        at_head = dict(found.ends)
        try:
            for row in found.rows(database):
                found.take(row, self._unit)
                if heads.get(str(row.chain), (0,))[0] == row.number:
                    at_head[row.chain] = found.ends[row.chain]
        except ValueError as error:
            raise self._broken(str(error)) from error
        for chain, (count, _) in found.ends.items():
            head = heads.get(str(chain), (0, GENESIS))
            if at_head[chain] != head:
                raise self._broken(
                    f"chain {chain} has {count} rows, its head knows {head[0]} with another end"
                )
        return found

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

    def _write_head(self, chains: Chains) -> None:
        heads, ends = self._heads(), {str(chain): end for chain, end in chains.ends.items()}
        write_json(self._head, heads | {self._population: heads.get(self._population, {}) | ends})

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
                chains = self._checked(database, range(int(CHAINS)))
                for ledger in earlier:
                    mark = (str(ledger.path.relative_to(folder)), ledger.last)
                    done = "SELECT 1 FROM imported WHERE file = ? AND last = ?"
                    if database.execute(done, mark).fetchone():
                        continue  # a crash came before the file was set aside
                    for users, release, about in ledger.entries:
                        chains.add(database, _ascending(users), release, UNKNOWN, about)
                    database.execute("INSERT INTO imported VALUES (?, ?)", mark)
            self._write_head(chains)
            for path in paths:
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

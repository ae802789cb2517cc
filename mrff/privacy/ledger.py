"""The ledger: what was released of whom, for ever. Append-only, crash-safe, tamper-evident.

    NAME.jsonl   one entry per line, each with the hash of the one before
    NAME.head    number of entries and the last hash, replaced after every append

An entry is durable before anything is released under it: a crash counts too much, never too
little. A changed, removed or reordered line breaks the chain; a removed end disagrees with the
head; a lost file disagrees with the one that is left. Then nothing may be trained: a ledger is
never begun anew. Whoever may delete the whole folder can make it forget; no file can prevent that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from mrff.privacy.accounting import Accountant, Release, epsilon_of, merged

_GENESIS = "0" * 64
Key = int  # of a user; 0 for a whole dataset


class LedgerError(ValueError):
    """The ledger cannot be trusted or written: nothing may be released."""


class BudgetExceededError(ValueError):
    """The next release would cost more than the budget has left; it was not made."""


@dataclass(frozen=True)
class Limit:
    """What may be spent; ``epsilon`` 0: there is no limit."""

    epsilon: float
    delta: float
    accountant: Accountant = "prv"


class Ledger:
    """What was released of each user, in one pair of files.

    Args:
        path: ending in ``.jsonl``; made when first written to.
        dataset: hash of the data that the ledger is about.

    Raises:
        LedgerError: what is there is damaged, or about other data.
    """

    def __init__(self, path: Path, dataset: str) -> None:
        self.path, self._dataset = path, dataset
        self._head = path.with_suffix(".head")
        self._lock = path.with_suffix(".lock")
        self._spent: dict[Key, dict[Release, int]] = {}
        self._last, self._count = _GENESIS, 0
        self._seen = (-1, -1)
        self._read()

    def users(self) -> list[Key]:
        """Everybody of whom something was released."""
        return sorted(self._spent)

    def releases(self, user: Key) -> tuple[Release, ...]:
        """Everything released of ``user``."""
        spent = self._spent.get(user, {})
        return merged(_times(kind, steps) for kind, steps in spent.items())

    def epsilon(self, users: Iterable[Key], limit: Limit, extra: Iterable[Release] = ()) -> float:
        """The highest epsilon of any of ``users``, with ``extra`` releases counted too."""
        more = tuple(extra)
        histories = {merged([*self.releases(user), *more]) for user in users}
        # Costs grow with steps: a history within another one cannot be the dearest.
        return max(
            (epsilon_of(h, limit.delta, limit.accountant) for h in _top(histories)), default=0
        )

    def check(self, users: Iterable[Key], release: Release, limit: Limit) -> None:
        """Whether ``release`` of all ``users`` stays within the budget.

        Raises:
            BudgetExceededError: it does not; the message has the numbers.
        """
        users = list(users)
        if limit.epsilon <= 0.0 or not users:
            return
        quick = Limit(limit.epsilon, limit.delta, "rdp")  # bounds the other from above
        if self.epsilon(users, quick, [release]) <= limit.epsilon:
            return
        after = self.epsilon(users, limit, [release])
        if after > limit.epsilon:
            before = self.epsilon(users, limit)
            raise BudgetExceededError(
                f"the privacy budget does not allow this round: it would bring epsilon from "
                f"{before:.4f} to {after:.4f} at delta={limit.delta:g}, above "
                f"epsilon-budget={limit.epsilon:g} ({release.steps} step(s) with noise-multiplier "
                f"{release.noise_multiplier:g} at sampling rate {release.sampling_rate:g}, "
                f"accountant {limit.accountant}; ledger {self.path})"
            )

    def append(
        self,
        users: Iterable[Key],
        release: Release,
        about: Mapping[str, Any],
        limit: Limit | None = None,
    ) -> None:
        """Notes ``release`` of ``users``; durable when it returns.

        Args:
            about: what else the entry says, such as run and round.
            limit: checked once more while nobody else can write: two runs that start at once
                cannot both take the last of a budget.

        Raises:
            BudgetExceededError: see `check`; nothing was written.
            LedgerError: it cannot be written, or changed meanwhile in a way it must not.
        """
        users = sorted(users)
        if not users:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock, timeout=60):
                if self._read(repair=True) and limit is not None:
                    self.check(users, release, limit)
                entry = {
                    "previous": self._last,
                    "dataset": self._dataset,
                    "mechanism": release.mechanism,
                    "noise_multiplier": release.noise_multiplier,
                    "sampling_rate": release.sampling_rate,
                    "steps": release.steps,
                    "users": [f"{user:x}" for user in users],
                    **about,
                }
                line = json.dumps(entry, sort_keys=True, allow_nan=False)
                self._write(f"{line}\n".encode())
                self._take(entry, line)
                self._write_head()
                self._seen = self._stamp()
        except (OSError, TimeoutError) as error:
            raise LedgerError(
                f"privacy ledger {self.path} cannot be written ({error}); nothing is released "
                "without an entry: free space, or restore access"
            ) from error

    def _read(self, *, repair: bool = False) -> bool:
        """Takes in what was appended since the last look, by whatever process; says if there was.

        Args:
            repair: cut off an unfinished last line; only who holds the lock may.
        """
        if self._stamp() == self._seen:
            return False
        head = self._read_head()
        content = self._content()
        lines = content.split(b"\n")
        unfinished = lines.pop()  # what a crash cut off: that round was never released
        self._spent, self._last, self._count = {}, _GENESIS, 0
        at_head = _GENESIS
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if entry["previous"] != self._last:
                    raise self._broken(f"line {number} does not follow the one before")
                if entry["dataset"] != self._dataset:
                    raise self._broken(f"line {number} is about other data")
                self._take(entry, line.decode())
            except LedgerError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._broken(f"line {number} cannot be read: {error}") from error
            if head and number == head[0]:
                at_head = self._last
        if head is None and self._count > 1:
            raise self._broken(f"{self._head.name} is missing")
        if head and (self._count < head[0] or at_head != head[1]):
            raise self._broken(
                f"it has {self._count} entries, its head knows {head[0]} with another end"
            )
        if unfinished and repair:
            with self.path.open("r+b") as file:
                file.truncate(len(content) - len(unfinished))
                os.fsync(file.fileno())
        self._seen = self._stamp() if repair or not unfinished else (-1, -1)
        return True

    def _stamp(self) -> tuple[int, int]:
        """Size and time of the file: it is read again when either has changed."""
        if not self.path.exists():
            return 0, 0
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise self._broken(f"it cannot be read: {error}") from error

    def _take(self, entry: Mapping[str, Any], line: str) -> None:
        kind = Release(
            float(entry["noise_multiplier"]), float(entry["sampling_rate"]), 1, entry["mechanism"]
        )
        steps = int(entry["steps"])
        if steps < 0:
            raise ValueError("negative steps")
        for name in entry["users"]:
            spent = self._spent.setdefault(int(name, 16), {})
            spent[kind] = spent.get(kind, 0) + steps
        self._last = sha256(line.encode()).hexdigest()
        self._count += 1

    def _write(self, line: bytes) -> None:
        is_new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(self.path.parent)

    def _write_head(self) -> None:
        temporary = self._head.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write(f"{self._count} {self._last}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._head)
        _sync_folder(self.path.parent)

    def _read_head(self) -> tuple[int, str] | None:
        if not self._head.exists():
            return None
        try:
            count, last = self._head.read_text().split()
            return int(count), last
        except (OSError, ValueError) as error:
            raise self._broken(f"{self._head.name} cannot be read: {error}") from error

    def _broken(self, why: str) -> LedgerError:
        return LedgerError(
            f"privacy ledger {self.path} cannot be trusted: {why}. Nothing is trained on this data "
            "until the ledger is restored from a backup; it is never begun anew"
        )


def _times(kind: Release, steps: int) -> Release:
    return Release(kind.noise_multiplier, kind.sampling_rate, steps, kind.mechanism)


def _top(histories: set[tuple[Release, ...]]) -> list[tuple[Release, ...]]:
    """Histories that no other one contains."""
    as_steps = [{_times(r, 1): r.steps for r in history} for history in histories]
    return [
        history
        for history, own in zip(histories, as_steps, strict=True)
        if not any(
            own is not other and all(other.get(kind, 0) >= steps for kind, steps in own.items())
            for other in as_steps
        )
    ]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

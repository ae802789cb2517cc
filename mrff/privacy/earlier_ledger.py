"""Ledgers of earlier releases, ``NAME.jsonl`` with ``NAME.head``: read to be imported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrff.io.files import sync_folder
from mrff.privacy.accounting import Release

_GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """What was released of whom, in which round of which run."""

    users: list[int]
    release: Release
    run: str | None
    round: int | None


@dataclass(frozen=True)
class EarlierLedger:
    """One file of an earlier release, and what is in it."""

    path: Path
    entries: list[Entry]
    last: str  # hash of the last line

    def set_aside(self) -> None:
        """Renames the files, so that they are not imported again."""
        for file in (self.path, self.path.with_suffix(".head")):
            if file.exists():
                file.rename(f"{file}.imported")
        sync_folder(self.path.parent)


def earlier_ledgers(folder: Path, population: str) -> list[Path]:
    """The ledgers under ``folder`` that are about ``population``; one of a pair may be missing."""
    places = [*folder.glob(f"{population}.*"), *(folder / population).glob("*.*")]
    return sorted({p.with_suffix(".jsonl") for p in places if p.suffix in (".jsonl", ".head")})


def read_earlier(path: Path, population: str) -> EarlierLedger:
    """Everything in ``path``, checked against its chain and its head.

    Raises:
        ValueError: it was touched, or is about other data; says how.
    """
    head = path.with_suffix(".head")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # a cut off end: no entry
    ends, entries = [_GENESIS], []
    for number, line in enumerate(lines, start=1):
        try:
            fields = json.loads(line)
            follows, entry = fields["previous"] == ends[-1], _entry(fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} of {path.name} cannot be read: {error}") from error
        if not follows:
            raise ValueError(f"line {number} of {path.name} does not follow the one before")
        if fields["dataset"] != population:
            raise ValueError(f"line {number} of {path.name} is about other data")
        entries.append(entry)
        ends.append(sha256(line).hexdigest())
    if head.exists():
        try:
            count, last = head.read_text().split()
            at_head = ends[int(count)] if int(count) < len(ends) else ""
        except ValueError as error:
            raise ValueError(f"{head.name} cannot be read: {error}") from error
        if at_head != last:
            raise ValueError(
                f"{path.name} has {len(entries)} entries, its head knows {count} with another end"
            )
    elif len(entries) > 1:
        raise ValueError(f"{head.name} is missing")
    return EarlierLedger(path, entries, ends[-1])


def _entry(fields: dict[str, Any]) -> Entry:
    release = Release(
        float(fields["noise_multiplier"]),
        float(fields["sampling_rate"]),
        int(fields["steps"]),
        fields["mechanism"],
    )
    users = [int(name, 16) for name in fields["users"]]
    return Entry(users, release, fields.get("training"), fields.get("round"))

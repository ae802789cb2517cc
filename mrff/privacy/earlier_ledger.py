"""Ledgers of earlier releases, ``NAME.jsonl`` with ``NAME.head``: read to be imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from mrff.io.files import sync_folder
from mrff.privacy.accounting import Release
from mrff.privacy.populations import matching

_GENESIS = "0" * 64


class EarlierLedger(NamedTuple):
    """What is in one file: the fields of each line, and the hash of the last line."""

    path: Path
    entries: list[tuple[list[int], Release, dict[str, Any]]]  # as `Ledger.append` takes them
    last: str


def earlier_ledgers(folder: Path, names: Sequence[str]) -> list[tuple[Path, str]]:
    """The ledgers under ``folder`` about one of ``names``, and which; of a pair one may be missing.

    They are ``NAME.jsonl`` or ``NAME/PART.jsonl``.
    """
    files = [p for p in (*folder.glob("*.*"), *folder.glob("*/*.*")) if p.name != "ledger.head"]
    named = {
        (p.with_suffix(".jsonl"), p.stem if p.parent == folder else p.parent.name)
        for p in files
        if p.suffix in (".jsonl", ".head")
    }
    return sorted((path, name) for path, name in named if matching([name], names))


def set_aside(path: Path) -> None:
    """Renames a ledger's files, so that they are not imported again."""
    for file in (path, path.with_suffix(".head")):
        if file.exists():
            file.rename(f"{file}.imported")
    sync_folder(path.parent)


def read_earlier(path: Path, population: str) -> EarlierLedger:
    """Everything in ``path``, checked against its chain and its head.

    Raises:
        ValueError: it was touched, or is about other data; says how.
    """
    head = path.with_suffix(".head")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # a cut off end: no entry
    ends, entries = [_GENESIS], []
    for number, line in enumerate(lines, start=1):
        where = f"line {number} of {path.name}"
        try:
            fields = json.loads(line)
            previous, about, entry = fields["previous"], fields["dataset"], _entry(fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        if previous != ends[-1]:
            raise ValueError(f"{where} does not follow the one before")
        if about != population:
            raise ValueError(f"{where} is about other data")
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


def _entry(fields: dict[str, Any]) -> tuple[list[int], Release, dict[str, Any]]:
    noise, rate = float(fields["noise_multiplier"]), float(fields["sampling_rate"])
    release = Release(noise, rate, int(fields["steps"]), fields["mechanism"])
    users = [int(name, 16) for name in fields["users"]]
    return users, release, {key: fields.get(key) for key in ("training", "round")}

"""Names that stand for the same people in a ledger: what was noted under one counts for all.

People are called by their dataset's population. Notes of earlier releases lie under hashes of
data, and data that were prepared in two places have one hash and two populations. Names that were
once used together stay together. A name with a ``?`` is a pattern, matched anew every time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_TOGETHER = """
SELECT name FROM names WHERE people IN
    (SELECT people FROM names WHERE name IN (SELECT value FROM json_each(?)))
"""
_KNOWN = "SELECT DISTINCT population FROM ends"


def all_names(database: sqlite3.Connection, names: Sequence[str]) -> list[str]:
    """``names`` with all that were ever used together with one of them; the first stays first."""
    together = database.execute(_TOGETHER, (json.dumps(names),))
    known = [name for (name,) in database.execute(_KNOWN)]
    found = [*_plain(names), *(name for (name,) in together), *matching(known, names)]
    return list(dict.fromkeys(found))


def join(database: sqlite3.Connection, names: Sequence[str]) -> None:
    """Notes that ``names`` are the same people."""
    alike = all_names(database, _plain(names))
    rows = [(name, alike[0]) for name in alike]
    if len(rows) > 1:
        database.executemany("INSERT OR REPLACE INTO names VALUES (?, ?)", rows)


def matching(found: Iterable[str], names: Iterable[str]) -> list[str]:
    """What of ``found`` is among ``names``, patterns included."""
    return [name for name in found if any(fnmatchcase(name, asked) for asked in names)]


def _plain(names: Iterable[str]) -> list[str]:
    return [name for name in names if "?" not in name]

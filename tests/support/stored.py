"""What lies in private stores, read without the store's own code."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from client_app.private_store import FILE


def stored_versions(root: Path) -> list[dict[str, np.ndarray]]:
    """Of each private store under ``root``: its arrays, (versions, ...) each."""
    found = []
    for path in sorted(root.rglob(FILE)):
        with closing(sqlite3.connect(path)) as database:
            ((layout,),) = database.execute("SELECT layout FROM about").fetchall()
            rows = database.execute("SELECT content FROM versions ORDER BY id").fetchall()
        kind = np.dtype([(name, base, tuple(shape)) for name, base, shape in json.loads(layout)])
        content = np.frombuffer(b"".join(row for (row,) in rows), kind)
        names = set(kind.names or ()) - {"user", "epoch", "round", "routes"}
        found.append({name: content[name] for name in sorted(names)})
    return found


def stored_rounds(folder: Path) -> list[int]:
    """The rounds of all versions in the private store in ``folder``."""
    if not (folder / FILE).exists():
        return []
    with closing(sqlite3.connect(folder / FILE)) as database:
        return [number for (number,) in database.execute("SELECT round FROM versions")]

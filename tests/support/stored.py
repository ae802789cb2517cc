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
        content = _records(path)
        names = set(content.dtype.names or ()) - {"checksum", "user", "epoch", "round", "routes"}
        found.append({name: content[name] for name in sorted(names)})
    return found


def stored_rounds(folder: Path) -> list[int]:
    """The rounds of all versions in the private store in ``folder``."""
    path = folder / FILE
    rounds: list[int] = _records(path)["round"].tolist() if path.exists() else []
    return rounds


def _records(path: Path) -> np.ndarray:
    """(versions,) that were not forgotten: a forgotten one has round -1 among the keys."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT keys, records, record FROM about, chunks JOIN contents USING (number)"
        ).fetchall()
    found = []
    for keys, content, record in rows:
        fields = [(name, base, tuple(shape)) for name, base, shape in json.loads(record)]
        records = np.frombuffer(content, np.dtype(fields))
        rounds = np.frombuffer(keys, "<u8, <i4, <i4")["f2"]
        found.append(records[rounds[: len(records)] >= 0])
    return np.concatenate(found) if found else np.zeros(0, [("round", "<i4")])

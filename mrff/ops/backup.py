"""A copy of a node's state while the node works: private stores and privacy ledgers.

Not the secrets of a secure sum under way: whoever restores them could open its masks once more.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from mrff.io.files import OutputError, sync_folder
from mrff.io.sqlite import PASSING, opened

# Heads come first: a ledger may know more than its head, as after a crash, and never less.
_PLAIN = ("*.head", "*.jsonl")


def backup(state_dir: Path, out: Path) -> list[Path]:
    """Copies every database under ``state_dir`` into the new folder ``out``.

    SQLite's own backup reads one state of each database and stops nobody who writes. The copy is
    a state folder: to restore it, put it in the place of the old one while the node stands still.

    Returns:
        The databases, relative to both folders.

    Raises:
        OutputError: there is nothing to copy, or ``out`` is there already.
        DatabaseError: a database is damaged, or the copy cannot be written.
    """
    state_dir, out = state_dir.expanduser().absolute(), out.expanduser().absolute()
    databases = sorted(
        path.relative_to(state_dir)
        for path in state_dir.rglob("*.sqlite")
        if not path.name.endswith(PASSING)
    )
    if not databases:
        raise OutputError(f"{state_dir} holds no private store and no ledger: give a state-dir")
    if out.exists() or out.is_relative_to(state_dir):
        raise OutputError(f"{out} must be a new folder outside {state_dir}: choose another --out")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700, parents=True)
    plain = [path.relative_to(state_dir) for kind in _PLAIN for path in state_dir.rglob(kind)]
    for name in (*plain, *databases):
        copy = unfinished / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if name not in databases:
            shutil.copyfile(state_dir / name, copy)
            continue
        with opened(state_dir / name) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, wherever it is put
    unfinished.rename(out)
    sync_folder(out.parent)
    return databases

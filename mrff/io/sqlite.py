"""SQLite databases whose commits survive a power cut, on local and on network file systems.

On a local file system the journal is written ahead (WAL): whoever reads, a backup for one, stops
nobody. WAL needs memory that processes share, which a network file system does not give. There,
where the file system cannot be told, and in folders that are said to be shared by machines,
SQLite's rollback journal takes its place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from logging import getLogger
from pathlib import Path

from filelock import FileLock

from mrff.io.files import sync_folder

PASSING = ".passing.sqlite"  # ends the names of databases that no backup may keep
BUSY_SECONDS = 60  # how long one process waits for another
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse", "afs", "ceph", "lustre", "gluster", "beegfs", "gpfs")
MOUNTS = Path("/proc/mounts")
SHARED = ".shared"  # a file of that name: several machines write in its folder and below
_DAMAGED = ("malformed", "not a database", "no such table", "no such rowid")
log = getLogger("flwr")


class DatabaseError(OSError):
    """A database cannot be opened, read or written; the message is one line."""


class DamagedDatabaseError(DatabaseError):
    """What the file holds is not what was written."""


@contextmanager
def opened(path: Path, schema: str | None = None) -> Iterator[sqlite3.Connection]:
    """The database at ``path``, closed at the end; every commit is on the disk when it returns.

    Args:
        schema: SQL that makes the database where there is none yet; None: it has to be there.

    Raises:
        DamagedDatabaseError: the file is truncated, overwritten or no database.
        DatabaseError: the disk is full, the folder cannot be written, somebody blocks it.
    """
    try:
        if schema is not None and not path.exists():
            _make(path, schema)
        with closing(_connect(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        damaged = any(words in str(error) for words in _DAMAGED)
        raise (DamagedDatabaseError if damaged else DatabaseError)(str(error)) from error
    except TimeoutError as error:
        raise DatabaseError(f"another process has held it for {BUSY_SECONDS} seconds") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside, or nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make(path: Path, schema: str) -> None:
    """Makes the database beside its place and renames it: it has its tables or is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=BUSY_SECONDS):
        if path.exists():
            return  # another process was faster
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)  # of a process that was killed
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.executescript(schema)
        new.rename(path)
        sync_folder(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    journal = "DELETE" if not_local(path.parent.absolute()) else "WAL"
    if connection.execute("PRAGMA journal_mode").fetchone()[0].upper() != journal:
        connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def declare_shared(folder: Path) -> None:
    """From now on every machine takes ``folder``, and all below it, for one that others write in.

    Raises:
        OSError: it cannot be made, or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHARED).touch()
    not_local.cache_clear()


@lru_cache(maxsize=4096)
def not_local(folder: Path) -> bool:
    """Whether other machines may write in ``folder``: it is shared, on a network or unknown."""
    folder = folder.resolve()
    kind = _file_system(folder)
    if any((place / SHARED).exists() for place in (folder, *folder.parents)):
        found = f"in a folder that machines share (there is a file {SHARED})"
    elif kind is None:
        found = "on an unknown file system"
    elif kind.startswith(NETWORK):
        found = f"on a network file system ({kind})"
    else:
        return False
    log.info("%s is %s: its databases keep a rollback journal, not WAL", folder, found)
    return True


def _file_system(folder: Path) -> str | None:
    """The type of the mount that holds ``folder``; Linux tells, other systems do not."""
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return None
    found, longest = None, -1
    for place, kind in mounts:
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= longest:  # the last mount covers others
            found, longest = kind, len(place)
    return found

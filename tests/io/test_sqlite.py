"""Which journal a database keeps where, and what an error says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mrff.io import sqlite
from mrff.io.sqlite import (
    DamagedDatabaseError,
    DatabaseError,
    declare_shared,
    not_local,
    opened,
    transaction,
)

SCHEMA = "CREATE TABLE numbers (number INTEGER)"
MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
//server/share /mnt/a\\040share cifs rw 0 0
shared /mnt/vm 9p rw 0 0
user@host: /mnt/ssh fuse.sshfs rw 0 0
/dev/vdb /home/local xfs rw 0 0
"""


def journal(path: Path) -> str:
    with opened(path, SCHEMA) as database:
        mode: str = database.execute("PRAGMA journal_mode").fetchone()[0]
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    return mode


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/var/state", False), ("/home/me/state", True), ("/home/local/state", False),
        ("/homes", False), ("/mnt/a share/state", True), ("/mnt/vm", True), ("/mnt/ssh/x", True),
    ],
)  # fmt: skip
def test_network_file_systems_are_known_by_their_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, expected: bool
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "mounts")
    not_local.cache_clear()
    assert not_local(Path(folder)) == expected
    not_local.cache_clear()


def test_the_journal_follows_the_file_system_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "local" / "data.sqlite"
    assert journal(path) == "wal"
    (tmp_path / "mounts").write_text("server:/ / nfs4 rw 0 0\n")
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "mounts")
    not_local.cache_clear()
    with caplog.at_level(logging.INFO, "flwr"):
        assert journal(path) == "delete"  # a folder that was moved there
        assert journal(path) == "delete"
    assert caplog.text.count("is on a network file system (nfs4)") == 1
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "none")
    not_local.cache_clear()
    assert journal(path) == "delete"  # who cannot tell takes what works everywhere
    not_local.cache_clear()


def test_a_folder_that_is_said_to_be_shared_keeps_a_rollback_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the mount says: a machine may export its local disk."""
    path = tmp_path / "home" / "state" / "node-0-of-2" / "data.sqlite"
    assert journal(path) == "wal"
    with caplog.at_level(logging.INFO, "flwr"):
        declare_shared(tmp_path / "home")
        assert journal(path) == "delete"
    assert "in a folder that machines share" in caplog.text
    assert not path.with_name("data.sqlite-wal").exists()
    assert journal(tmp_path / "data.sqlite") == "wal"  # beside the home


def test_a_transaction_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"

    def fail() -> None:
        with opened(path) as database, transaction(database):
            database.execute("INSERT INTO numbers VALUES (1)")
            raise KeyError

    with opened(path, SCHEMA) as database:
        with pytest.raises(KeyError):
            fail()
        with transaction(database):
            database.execute("INSERT INTO numbers VALUES (2)")
    with opened(path) as database:
        assert database.execute("SELECT * FROM numbers").fetchall() == [(2,)]


def test_errors_are_one_line_of_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseError, match="unable to open"), opened(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(DamagedDatabaseError, match="not a database"), opened(tmp_path / "text"):
        pass
    path = tmp_path / "data.sqlite"
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with opened(path, SCHEMA) as one, opened(path) as other, transaction(one):
        with pytest.raises(DatabaseError, match="database is locked"):  # noqa: SIM117
            with opened(path) as third, transaction(third):
                pass
        assert other.execute("SELECT count(*) FROM numbers").fetchone() == (0,)  # reading goes on

"""Writes that survive a crash: the old or the new content, never a mixture."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


class OutputError(OSError):
    """Results cannot be written, or not where they were asked for."""


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes ``path`` in one step, when all of it is written."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the file at ``path`` in one step."""
    with replaced(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Replaces the JSON file at ``path`` in one step."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Readable JSON with keys in their order; NaN is refused, since other readers refuse it."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Makes created, renamed and deleted names in ``folder`` durable."""
    sync(folder)


def sync(path: Path) -> None:
    """Forces a file's content, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

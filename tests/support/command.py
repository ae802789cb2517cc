"""The installed command as a program of its own, and the processes that it has or leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MRFF = str(Path(sys.executable).parent / "mrff")
QUIET = {"FLWR_TELEMETRY_ENABLED=0", "RAY_USAGE_STATS_ENABLED=0"}


def mrff(*words: object, home: Path, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    """Runs the command, which keeps its files in ``home``, and waits for its end."""
    return subprocess.run(
        [MRFF, *map(str, words)],
        env={**os.environ, "MRFF_HOME": str(home)}, cwd=home.parent,
        capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """How a command ended, what it wrote, and what its processes were like."""

    status: int
    log: str
    workers: int  # of Ray's, at most at a time
    reporters: set[str]  # processes free to tell Flower's or Ray's makers that they ran


def watched(*words: object, home: Path) -> Watched:
    """Runs the command and looks at its processes meanwhile."""
    most, log = 0, home.parent / "log"
    reporters: set[str] = set()
    seen: set[tuple[Path, str]] = set()
    with log.open("wb") as out:
        running = subprocess.Popen(
            [MRFF, *map(str, words)], env={**os.environ, "MRFF_HOME": str(home)},
            cwd=home.parent, stdout=out, stderr=out,
        )  # fmt: skip
        while running.poll() is None:
            workers = [line for line in running_below(home) if "ray::ClientAppActor" in line]
            most = max(most, len(workers))
            before, seen = seen, _reporting_below(home)
            reporters |= {title for _, title in before & seen}
            time.sleep(0.2)
    return Watched(running.returncode, log.read_text(), most, reporters)


def processes_below(folder: Path) -> list[Path]:
    """Processes that work in ``folder``, as they stand in /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in os.readlink(entry / "cwd"):
                found.append(entry)
        except OSError:  # somebody else's, or it ended
            continue
    return found


def running_below(folder: Path) -> list[str]:
    """Their command lines: what a command left behind."""
    lines = (_text(entry / "cmdline") for entry in processes_below(folder))
    return [line for line in lines if line]


def _reporting_below(folder: Path) -> set[tuple[Path, str]]:
    """Processes that Ray gave a title cannot be asked: it lies where their environment was.

    A fork that has not become its program yet shows its parent's: so programs are looked at twice.
    """
    found = set()
    for entry in processes_below(folder):
        settings = set(_text(entry / "environ").split())
        title = _text(entry / "cmdline")
        if settings and title and not title.startswith("ray::") and not settings >= QUIET:
            found.add((entry, title))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").replace("\0", " ")
    except OSError:  # it ended
        return ""

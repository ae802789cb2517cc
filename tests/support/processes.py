"""Processes of this machine that belong together: started, frozen, killed and found again.

Each is started in a session of its own and ended by pid; all carry a mark in their environment, so
that one whose parent has died is still known.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from mrff.ops.control import environment, program

MARK = "MRFF_TEST_FEDERATION"


class Processes:
    """Named processes with logs; Flower's files and the logs lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: str, *arguments: object) -> None:
        """Starts a program of this environment under a name; its output goes to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [program(command), *map(str, arguments)],
                cwd=self.folder,  # no checkout: the code that runs is the one that was submitted
                env={
                    **environment(self.folder / "flower" / name),
                    MARK: self._mark,
                    "PYTHONUNBUFFERED": "1",
                    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.4",  # 0.1 costs half a core
                    "OMP_NUM_THREADS": "1",  # several nodes share the machine's cores
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        """What the process of this name has written, over all its starts."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def pid(self, name: str) -> int:
        """Of the process that `start` started under this name."""
        return self._running[name].pid

    def is_running(self, name: str) -> bool:
        """Whether it was started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def kill(self, name: str) -> None:
        """SIGKILL to the process and all it started, as when the power fails."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def freeze(self, name: str) -> None:
        """SIGSTOP to the process and all it started: alive, connected, silent."""
        os.killpg(self._running[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """The frozen process goes on where it was."""
        os.killpg(self._running[name].pid, signal.SIGCONT)

    def send(self, program_name: str, number: signal.Signals) -> None:
        """Sends a signal to every process with this name in its command line."""
        for process in self._ours():
            if program_name.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                _signal(process, number)

    def exit_status(self, name: str, seconds: float) -> int:
        """The exit status of a process that ends by itself."""
        return self._running[name].wait(seconds)

    def stop(self) -> None:
        """Ends everything that is still running."""
        for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            for process in self._ours():
                _signal(process, number)
                _signal(process, signal.SIGCONT)  # a frozen one hears of its end only then
            deadline = time.monotonic() + seconds
            while self._ours() and time.monotonic() < deadline:
                time.sleep(0.2)
        for started in self._running.values():
            started.wait()
        self._running.clear()

    def _ours(self) -> list[int]:
        """Living processes of this federation, also those whose parent has died."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = mark in (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if is_ours and state != "Z":
                found.append(int(entry.name))
        return found


def wait_for(what: str, holds: Callable[[], object], seconds: float, *, every: float = 0.1) -> None:
    """Returns when ``holds()`` is true.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)

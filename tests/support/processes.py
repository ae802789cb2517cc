"""Named processes of this machine that belong together: started, frozen, killed and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path

from mrff.ops.control import environment, program
from mrff.ops.processes import MARK, marked, send, start, stop_marked


class Processes:
    """Named processes with logs; Flower's files and the logs lie in ``folder``."""

    poll_seconds = 0.4  # between an executor's questions for a task; 0.1 costs half a core

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: str, *arguments: object) -> None:
        """Starts a program of this environment under a name; its output goes to ``NAME.log``."""
        variables = {
            **environment(self.folder / "flower" / name),
            MARK: self._mark,
            "PYTHONUNBUFFERED": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(self.poll_seconds),
            "OMP_NUM_THREADS": "1",  # several nodes share the machine's cores
        }
        # In a folder that is no checkout: the code that runs is the one that was submitted.
        log = self.folder / f"{name}.log"
        self._running[name] = start([program(command), *map(str, arguments)], variables, log)

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
        for process in marked(self._mark):
            if program_name.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                send(process, number)

    def exit_status(self, name: str, seconds: float) -> int:
        """The exit status of a process that ends by itself."""
        return self._running[name].wait(seconds)

    def stop(self) -> None:
        """Ends everything that is still running."""
        stop_marked(self._mark)
        for started in self._running.values():
            started.wait()
        self._running.clear()

"""Flower's simulation engine for one command: a SuperLink of our own that ends with us.

``flwr run`` by itself leaves a SuperLink in the background, with the directory and environment of
whoever started it first; Ray workers then import client code from that directory, perhaps another
checkout's. Here the SuperLink starts in a neutral directory, on a free port, and every process that
it started is stopped when the command ends.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mrff.ops import processes
from mrff.ops.control import Control, FlowerError, is_healthy, simulation_command
from mrff.ops.federation import Federation

_START_SECONDS = 60.0
_LOCK_FILE = ".lock"


class FlowerEngine:
    """A SuperLink in simulation mode; use as a context manager.

    Args:
        parent: where the engine makes a folder for Flower's own files and logs, which is also the
            neutral working directory. It is removed at the end, and kept when something failed.
        federation: of every run.
    """

    def __init__(self, parent: Path, federation: Federation) -> None:
        self.federation = federation
        self.folder = parent.absolute() / f"engine-{uuid.uuid4().hex[:8]}"
        self._variables = {
            "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports on its users unless told not to
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONUNBUFFERED": "1",
            **federation.variables,
            processes.MARK: str(self.folder),
        }
        self._superlink: subprocess.Popen[bytes] | None = None
        self._lock = FileLock(self.folder / _LOCK_FILE)

    def __enter__(self) -> FlowerEngine:
        log = self.folder / "superlink.log"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()  # given up with this process, however it ends
            port = processes.free_port()
            self._control = Control(f"127.0.0.1:{port}", None, self.folder, self._variables)
            command, variables = simulation_command(port), self._control.environment
            self._superlink = processes.start(command, variables, log)
        except OSError as error:
            raise FlowerError(f"cannot start Flower in {self.folder}: {error}") from error
        try:
            with suppress(TimeoutError):
                processes.wait_for(
                    "its start", lambda: is_healthy(port) or not self.is_running, _START_SECONDS
                )
            if not (self.is_running and is_healthy(port)):
                raise FlowerError(f"the SuperLink did not start; see {log}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, error: object, *details: object) -> None:
        self.stop()
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        """Whether the SuperLink is there; without it no further run has a chance."""
        return self._superlink is not None and self._superlink.poll() is None

    def run(self, app: Path, run_config: Path, log: Path | None = None) -> None:
        """Submits a run, shows its log or writes it to a file, and waits for its end.

        Several may go on at once.

        Raises:
            FlowerError: the run was refused or did not complete.
        """
        run_id = self._control.submit(app, [str(run_config)], self.federation.options())
        self._control.follow(run_id, log)

    def stop(self) -> None:
        """Ends every process of the engine, Ray's included, by pid."""
        if self._superlink is None:
            return
        processes.stop_marked(str(self.folder))
        self._superlink.wait()
        self._superlink = None
        self._lock.release()


def stop_left_behind(parent: Path) -> None:
    """Ends engines below ``parent`` whose command was killed before it could end them."""
    for folder in parent.absolute().glob("engine-*"):
        try:
            with FileLock(folder / _LOCK_FILE, timeout=0):
                if processes.marked(str(folder)):
                    processes.stop_marked(str(folder))
                    shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue  # at work

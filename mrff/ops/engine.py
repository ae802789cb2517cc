"""Flower's simulation engine for one command: a SuperLink of our own that ends with us.

``flwr run`` by itself leaves a SuperLink in the background, with the directory and environment of
whoever started it first; Ray workers then import client code from that directory, perhaps another
checkout's. Here the SuperLink starts in a neutral directory, on a free port, and every process that
it started is stopped when the command ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mrff.ops.control import (
    Control,
    FlowerError,
    federation_config,
    is_healthy,
    simulation_command,
)

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_MARK = "MRFF_FLOWER_ENGINE"  # in the environment of every process of the engine
_MARK_FILE, _LOCK_FILE = "mark", ".lock"


class FlowerEngine:
    """A SuperLink in simulation mode; use as a context manager.

    Args:
        parent: where the engine makes a folder for Flower's own files and logs, which is also the
            neutral working directory. It is removed at the end, and kept when something failed.
        nodes, cpus_per_node: of every run.
    """

    def __init__(self, parent: Path, *, nodes: int, cpus_per_node: int) -> None:
        self.nodes, self._cpus_per_node = nodes, cpus_per_node
        self._mark = uuid.uuid4().hex
        self.folder = parent / f"engine-{self._mark[:8]}"
        self._variables = {
            "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports on its users unless told not to
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONUNBUFFERED": "1",
            _MARK: self._mark,
        }
        self._superlink: subprocess.Popen[bytes] | None = None
        self._lock = FileLock(self.folder / _LOCK_FILE)

    def __enter__(self) -> FlowerEngine:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()  # given up with this process, however it ends
            (self.folder / _MARK_FILE).write_text(self._mark)
            port = _free_port()
            self._control = Control(f"127.0.0.1:{port}", None, self.folder, self._variables)
            with (self.folder / "superlink.log").open("wb") as log:
                self._superlink = subprocess.Popen(
                    simulation_command(port), env=self._control.environment, cwd=self.folder,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise FlowerError(f"cannot start Flower in {self.folder}: {error}") from error
        try:
            self._wait_until_healthy(port)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        """Whether the SuperLink is there; without it no further run has a chance."""
        return self._superlink is not None and self._superlink.poll() is None

    def run(self, app: Path, run_config: Path, log: Path | None = None) -> None:
        """Submits a run, shows its log, and waits for its end. Several may go on at once.

        Args:
            log: a file that gets the log instead of being shown.

        Raises:
            FlowerError: the run was refused or did not complete.
        """
        cpus = os.cpu_count() or 1
        federation = federation_config(self.nodes, self._cpus_per_node, cpus=cpus)
        run_id = self._control.submit(app, [str(run_config)], federation)
        self._control.follow(run_id, log)

    def stop(self) -> None:
        """Ends every process of the engine, Ray's included, by pid."""
        if self._superlink is None:
            return
        _stop(self._processes)
        self._superlink.wait()
        self._superlink = None
        self._lock.release()

    def _processes(self) -> list[int]:
        assert self._superlink is not None
        running = [self._superlink.pid] if self._superlink.poll() is None else []
        return sorted({*running, *_marked(self._mark)})

    def _wait_until_healthy(self, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self.is_running and time.monotonic() < deadline:
            if is_healthy(port):
                return
            time.sleep(0.1)
        raise FlowerError(f"the SuperLink did not start; see {self.folder / 'superlink.log'}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def stop_left_behind(parent: Path) -> None:
    """Ends engines below ``parent`` whose command was killed before it could end them."""
    for file in parent.glob(f"engine-*/{_MARK_FILE}"):
        lock, mark = FileLock(file.parent / _LOCK_FILE, timeout=0), file.read_text()
        try:
            with lock:
                if _marked(mark):
                    _stop(partial(_marked, mark))
                    shutil.rmtree(file.parent, ignore_errors=True)
        except Timeout:
            continue  # at work


def _stop(processes: Callable[[], list[int]]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_SECONDS
        _signal(processes(), number)
        while processes() and time.monotonic() < deadline:
            time.sleep(0.1)


def _marked(mark: str) -> list[int]:
    """Running processes with ``mark`` in their environment; Ray's own sessions included."""
    found, entry_of_mark = [], f"{_MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = entry_of_mark in (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if is_ours and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue

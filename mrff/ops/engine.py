"""Flower's simulation engine for one command: a SuperLink of our own that ends with us.

``flwr run`` by itself leaves a SuperLink in the background, with the directory and environment of
whoever started it first; Ray workers then import client code from that directory, perhaps another
checkout's. Here the SuperLink starts in a neutral directory, on a free port, and every process that
it started is stopped when the command ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_MARK = "MRFF_FLOWER_ENGINE"  # in the environment of every process of the engine
_CONNECTION = "engine"
_MARK_FILE, _LOCK_FILE = "mark", ".lock"


class FlowerError(OSError):
    """Flower could not be started, or a run of it failed."""


class FlowerEngine:
    """A SuperLink in simulation mode; use as a context manager.

    Args:
        parent: where the engine makes a folder for Flower's own files and logs, which is also the
            neutral working directory. It is removed at the end, and kept when something failed.
    """

    def __init__(self, parent: Path) -> None:
        self._mark = uuid.uuid4().hex
        self.folder = parent / f"engine-{self._mark[:8]}"
        self._superlink: subprocess.Popen[bytes] | None = None
        self._lock = FileLock(self.folder / _LOCK_FILE)

    def __enter__(self) -> FlowerEngine:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()  # given up with this process, however it ends
            (self.folder / _MARK_FILE).write_text(self._mark)
            port = _free_port()
            (self.folder / "config.toml").write_text(
                f'[superlink]\ndefault = "{_CONNECTION}"\n[superlink.{_CONNECTION}]\n'
                f'address = "127.0.0.1:{port}"\ninsecure = true\n'
            )
            with (self.folder / "superlink.log").open("wb") as log:
                self._superlink = subprocess.Popen(
                    [
                        _program("flower-superlink"), "--insecure", "--simulation",
                        "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port),
                        "--disable-runtime-dependency-installation",
                    ],
                    cwd=self.folder, env=self._environment(), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
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

    def run(
        self,
        app: Path,
        run_config: Path,
        *,
        nodes: int,
        cpus_per_node: int,
        log: Path | None = None,
    ) -> None:
        """Submits a run, shows its log, and waits for its end. Several may go on at once.

        Args:
            log: a file that gets the log instead of being shown.

        Raises:
            FlowerError: the run was refused or did not complete. (``flwr run`` itself exits with 0
                when a run fails, so the run's status is asked for.)
        """
        submitted = self._flwr(
            "run", str(app), _CONNECTION, "--run-config", str(run_config), "--federation-config",
            federation_config(nodes, cpus_per_node, cpus=os.cpu_count() or 1),
        )  # fmt: skip
        if not submitted.get("success"):
            raise FlowerError(f"flwr run refused: {submitted.get('error-message', submitted)}")
        run_id = str(submitted["run-id"])
        with nullcontext(None) if log is None else log.open("wb") as out:
            subprocess.run(
                [_program("flwr"), "log", run_id, _CONNECTION, "--stream"],
                env=self._environment(), cwd=self.folder, check=False, stdin=subprocess.DEVNULL,
                stdout=out, stderr=None if out is None else subprocess.STDOUT,
            )  # fmt: skip
        listed = self._flwr("ls", _CONNECTION, "--run-id", run_id)
        runs = listed.get("runs") or [{}]
        status = runs[0].get("status", "unknown")
        if status != "finished:completed":
            details = runs[0].get("status-details") or "see the log above"
            raise FlowerError(f"the run ended as {status} ({details})")

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

    def _environment(self) -> dict[str, str]:
        programs = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self.folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports on its users unless told not to
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONUNBUFFERED": "1",
            _MARK: self._mark,
        }

    def _flwr(self, *arguments: str) -> dict[str, Any]:
        """A ``flwr`` command's answer in JSON."""
        done = subprocess.run(
            [_program("flwr"), *arguments, "--format", "json"],
            env=self._environment(), cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        start = done.stdout.find("{")
        try:
            answer: dict[str, Any] = json.loads(done.stdout[start:])
        except ValueError:
            said = (done.stdout + done.stderr).strip().replace("\n", " ")
            raise FlowerError(f"flwr {arguments[0]} failed: {said[-300:]}") from None
        return answer

    def _wait_until_healthy(self, port: int) -> None:
        assert self._superlink is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._superlink.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise FlowerError(f"the SuperLink did not start; see {self.folder / 'superlink.log'}")


def federation_config(nodes: int, cpus_per_node: int, *, cpus: int) -> str:
    """What Flower is told of a simulation on a machine of ``cpus`` processors.

    Flower starts as many workers as Ray has room for, however few the nodes: Ray is given no more
    processors than the nodes can use.
    """
    wanted = min(cpus, nodes * cpus_per_node)
    return (
        f"num-supernodes={nodes} client-resources-num-cpus={cpus_per_node} "
        f"init-args-num-cpus={wanted}"
    )


def _program(name: str) -> str:
    """A program of this environment, activated or not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


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

"""A SuperLink's control port, through the ``flwr`` command: nodes, runs, and how a run ended.

``flwr run`` exits with 0 when a run fails, and keeps its connections in a file of the user's home;
here a run's status is asked for, and the connection lives in a folder of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONNECTION = "deployment"
ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
_POLL_SECONDS = 1.0
_RUN_POLL_SECONDS = 4.0  # a command of its own each time, and runs take minutes


class ControlError(OSError):
    """The SuperLink cannot be reached, refuses, or a run did not complete."""


class Control:
    """Talks to one SuperLink.

    Args:
        address: ``HOST:PORT``.
        ca: the certificate to check the SuperLink's by; None: no TLS, for trials on one machine.
        folder: for Flower's own files; made if it is not there.
    """

    def __init__(self, address: str, ca: Path | None, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        trust = "insecure = true" if ca is None else f"root-certificates = {_text(ca.absolute())}"
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\n'
            f"address = {_text(address)}\n{trust}\n"
        )
        self.address = address
        self._folder = folder

    def wait_until_reachable(self, seconds: float) -> None:
        """Returns when the SuperLink answers.

        Raises:
            ControlError: it does not within ``seconds``; the last reason is in the message.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.runs()
                return
            except ControlError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def register(self, public_key: Path, name: str) -> bool:
        """Lets the node with this key take part; False if it may already."""
        try:
            self._ask("supernode", "register", str(public_key.absolute()), CONNECTION,
                      "--name", name)  # fmt: skip
        except ControlError as error:
            if "already in use" in str(error):
                return False
            raise
        return True

    def unregister(self, node_id: str) -> None:
        """Shuts a node out; one that is connected loses its connection."""
        self._ask("supernode", "unregister", node_id, CONNECTION)

    def nodes(self) -> list[dict[str, Any]]:
        """Registered nodes, each with ``node-id`` and ``status``."""
        nodes: list[dict[str, Any]] = self._ask("supernode", "list", CONNECTION)["nodes"]
        return nodes

    def submit(self, app: Path, run_config: Sequence[str]) -> str:
        """Starts a run of the app in this folder and returns the run's id.

        Args:
            run_config: ``KEY=VALUE`` with values in TOML, or one path of a TOML file.
        """
        changes = [part for setting in run_config for part in ("--run-config", setting)]
        return str(self._ask("run", str(app.absolute()), CONNECTION, *changes)["run-id"])

    def runs(self) -> list[dict[str, Any]]:
        """All runs that the SuperLink knows."""
        runs: list[dict[str, Any]] = self._ask("ls", CONNECTION)["runs"]
        return runs

    def status(self, run_id: str) -> tuple[str, str]:
        """``finished:completed`` or another state of Flower's, and its details."""
        run = self._ask("ls", CONNECTION, "--run-id", run_id)["runs"][0]
        return str(run["status"]), str(run.get("status-details") or "")

    def show_log(self, run_id: str) -> None:
        """Prints the run's log until the run ends or the connection does."""
        command = [program("flwr"), "log", run_id, CONNECTION, "--stream"]
        subprocess.run(command, env=self._environment(), check=False)

    def wait(self, run_id: str, seconds: float | None = None) -> tuple[str, str]:
        """The status of the run once it is finished, or after ``seconds``."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            status, details = self.status(run_id)
            late = deadline is not None and time.monotonic() >= deadline
            if status.startswith("finished") or late:
                return status, details
            time.sleep(_RUN_POLL_SECONDS)

    def stop(self, run_id: str) -> None:
        """Ends a run; its checkpoint stays."""
        self._ask("stop", run_id, CONNECTION)

    def _ask(self, *arguments: str) -> dict[str, Any]:
        """A ``flwr`` command's answer in JSON."""
        done = subprocess.run(
            [program("flwr"), *arguments, "--format", "json"],
            env=self._environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            answer: dict[str, Any] = json.loads(done.stdout[done.stdout.find("{") :])
        except ValueError:
            answer = {"error-message": f"{done.stdout} {done.stderr}"}
        if not answer.get("success"):
            said = " ".join(str(answer.get("error-message", answer)).split())
            raise ControlError(f"flwr {arguments[0]} at {self.address}: {said[-400:]}")
        return answer

    def _environment(self) -> dict[str, str]:
        return environment(self._folder)


def environment(flower_home: Path) -> dict[str, str]:
    """For Flower's programs: this environment's programs first, no calls home."""
    programs = str(Path(sys.executable).parent)
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **ENVIRONMENT, "PATH": path, "FLWR_HOME": str(flower_home)}


def program(name: str) -> str:
    """A program of this environment, activated or not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _text(value: object) -> str:
    return json.dumps(str(value))

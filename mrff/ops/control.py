"""A SuperLink, through Flower's programs: nodes, runs, and how a run ended.

What this product takes from Flower without Flower promising it stands in this file: the
connections in ``config.toml`` of its home, the JSON its commands answer, the SuperLink's options
for simulation, its health page and its environment variables. (What a simulation needs from within
is in `server_app.simulation_workers`.)

``flwr run`` exits with 0 when a run fails, and keeps its connections in a file of the user's home;
here a run's status is asked for, and the connection lives in a folder of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

CONNECTION = "mrff"
ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
FORCED_COLOURS = ("FORCE_COLOR", "TTY_COMPATIBLE")  # notebooks and CI set them: no JSON is left
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # a proxy would look for them on its own machine
COMPLETED = "finished:completed"
_POLL_SECONDS = 1.0
_RUN_POLL_SECONDS = 4.0  # a command of its own each time, and runs take minutes


class FlowerError(OSError):
    """Flower cannot be started or reached, refuses, or a run did not complete."""


class Control:
    """Talks to one SuperLink.

    Args:
        address: ``HOST:PORT``.
        ca: the certificate to check the SuperLink's by; None: no TLS, for trials on one machine.
        folder: for Flower's own files, and where its programs work; made if it is not there.
        variables: more of the environment of Flower's programs.

    Raises:
        FlowerError: there is no such certificate.
    """

    def __init__(
        self,
        address: str,
        ca: Path | None,
        folder: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if ca is not None:
            _require(ca)
        folder.mkdir(parents=True, exist_ok=True)
        trust = "insecure = true" if ca is None else f"root-certificates = {_text(ca.absolute())}"
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\n'
            f"address = {_text(address)}\n{trust}\n"
        )
        self.address = address
        self._folder = folder.absolute()
        self.environment = {**environment(self._folder), **(variables or {})}

    def wait_until_reachable(self, seconds: float) -> None:
        """Returns when the SuperLink answers.

        Raises:
            FlowerError: it does not within ``seconds``; the last reason is in the message.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.runs()
                return
            except FlowerError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def register(self, public_key: Path, name: str) -> bool:
        """Lets the node with this key take part; False if it may already."""
        _require(public_key)
        try:
            self._ask("supernode", "register", str(public_key.absolute()), CONNECTION,
                      "--name", name)  # fmt: skip
        except FlowerError as error:
            if "already in use" in str(error):
                return False
            raise
        return True

    def nodes(self) -> list[dict[str, Any]]:
        """Registered nodes, each with ``node-id`` and ``status``."""
        nodes: list[dict[str, Any]] = self._ask("supernode", "list", CONNECTION)["nodes"]
        return nodes

    def submit(self, app: Path, run_config: Sequence[str], federation: str = "") -> str:
        """Starts a run of the app in this folder and returns the run's id.

        Args:
            run_config: ``KEY=VALUE`` with values in TOML, or one path of a TOML file.
            federation: for a simulation, see `mrff.ops.federation.Federation.options`.
        """
        # In one: of several options Flower keeps only the last of each group of settings.
        more = ["--run-config", " ".join(run_config)] if run_config else []
        more += ["--federation-config", federation] if federation else []
        return str(self._ask("run", str(app.absolute()), CONNECTION, *more)["run-id"])

    def runs(self) -> list[dict[str, Any]]:
        """All runs that the SuperLink knows."""
        runs: list[dict[str, Any]] = self._ask("ls", CONNECTION)["runs"]
        return runs

    def follow(self, run_id: str, log: Path | None = None) -> None:
        """Shows the run's log, or writes it to a file, and waits for the run's end.

        Raises:
            FlowerError: the run did not complete.
        """
        with nullcontext(None) if log is None else log.open("wb") as out:
            self._run("log", run_id, CONNECTION, "--stream", stdout=out, stderr=out)
        status, details = self.wait(run_id)
        if status != COMPLETED:
            raise FlowerError(f"the run ended as {status} ({details or 'see the log above'})")

    def wait(self, run_id: str, seconds: float | None = None) -> tuple[str, str]:
        """The run's status and its details once it is finished, or after ``seconds``."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            run = self._ask("ls", CONNECTION, "--run-id", run_id)["runs"][0]
            status, details = str(run["status"]), str(run.get("status-details") or "")
            late = deadline is not None and time.monotonic() >= deadline
            if status.startswith("finished") or late:
                return status, details
            time.sleep(_RUN_POLL_SECONDS)

    def stop(self, run_id: str) -> None:
        """Ends a run; its checkpoint stays."""
        self._ask("stop", run_id, CONNECTION)

    def _ask(self, *arguments: str) -> dict[str, Any]:
        """A ``flwr`` command's answer in JSON."""
        done = self._run(*arguments, "--format", "json", capture_output=True, text=True)
        try:
            answer: dict[str, Any] = json.loads(done.stdout[done.stdout.find("{") :])
        except ValueError:
            answer = {"error-message": f"{done.stdout} {done.stderr}"}
        if not answer.get("success"):
            said = " ".join(str(answer.get("error-message", answer)).split())
            raise FlowerError(f"flwr {arguments[0]} at {self.address}: {said[-400:]}")
        return answer

    def _run(self, *arguments: str, **output: Any) -> subprocess.CompletedProcess[Any]:
        return subprocess.run(
            [program("flwr"), *arguments], env=self.environment, cwd=self._folder, check=False,
            stdin=subprocess.DEVNULL, **output,
        )  # fmt: skip


def simulation_command(port: int) -> list[str]:
    """Starts a SuperLink that simulates its nodes, for this machine alone."""
    return [
        program("flower-superlink"), "--insecure", "--simulation",
        "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


def is_healthy(port: int) -> bool:
    """Whether the SuperLink on this machine answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except OSError:
        return False


def environment(flower_home: Path) -> dict[str, str]:
    """For Flower's programs: this environment's first, no calls home, loopback by no proxy.

    Colours that are forced are left out: Flower would write them into its JSON.
    """
    programs = str(Path(sys.executable).parent)
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    known = {os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")} - {""}
    direct = ",".join([*sorted(known), *LOOPBACK])
    plain = {name: text for name, text in os.environ.items() if name not in FORCED_COLOURS}
    return {
        **plain, **ENVIRONMENT, "PATH": path, "FLWR_HOME": str(flower_home),
        "no_proxy": direct, "NO_PROXY": direct,
    }  # fmt: skip


def program(name: str) -> str:
    """A program of this environment, activated or not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _require(file: Path) -> None:
    if not file.is_file():
        raise FlowerError(f"{file} is no file; make it with: mrff deploy keys")


def _text(value: object) -> str:
    return json.dumps(str(value))

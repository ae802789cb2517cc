"""A real federation of processes on this machine: TLS, node authentication, ports of its own.

Everything is started in a session of its own and ended by pid; Flower's files, logs, keys, shards
and state lie in one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mrff_cli.deploy_control import Control, environment, program
from mrff_cli.deploy_keys import make_keys, node_name
from mrff_data.shard import node_folder

CHECKOUT = Path(__file__).resolve().parents[2]
MARK = "MRFF_TEST_FEDERATION"
CONNECTED = "SuperNode ID:"  # what a SuperNode logs then
Values = dict[str, bool | int | float | str]


class Federation:
    """A SuperLink and its SuperNodes; use as a context manager, which ends all of them.

    Args:
        folder: of everything this federation writes.
        shards: as `mrff_data.shard.shard` made them: ``node-0``, ..., ``server``.
        nodes: how many keys are made and registered; `start_node` starts them.
    """

    def __init__(self, folder: Path, shards: Path, *, nodes: int) -> None:
        self.folder, self.shards = folder, shards
        self.keys, self.home = folder / "keys", folder / "home"
        self.port = free_port()
        self._mark = uuid.uuid4().hex
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._number_of_nodes = nodes
        make_keys(self.keys, nodes=nodes)
        ca = self.keys / "public/ca.crt"
        self.control = Control(f"127.0.0.1:{self.port}", ca, folder / "cli")

    def __enter__(self) -> Self:
        try:
            self.start_superlink()
            for node in range(self._number_of_nodes):
                self.register(node)
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

    # Processes

    def start_superlink(self) -> None:
        """Starts the SuperLink, which starts ServerApps, and waits until it answers."""
        keys = self.keys / "superlink"
        self._start(
            "superlink",
            "flower-superlink", "--host", "127.0.0.1", "--port", self.port,
            "--ssl-ca-certfile", keys / "ca.crt", "--ssl-certfile", keys / "server.crt",
            "--ssl-keyfile", keys / "server.key", "--enable-supernode-auth",
            "--database", self.folder / "superlink.db",
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self.control.wait_until_reachable(120)

    def start_node(
        self,
        node: int,
        *,
        config: Mapping[str, object] | None = None,
        keys: Path | None = None,
        ca: Path | None = None,
        authenticated: bool = True,
    ) -> None:
        """Starts a SuperNode.

        Args:
            config: its settings; default: its shard, and a state folder of its own.
            keys: a folder like ``node-0`` to take ``auth.key`` from.
            ca: the certificate to check the SuperLink's by.
            authenticated: whether it says who it is.
        """
        keys = keys or self.keys / node_name(node)
        config = self.settings(node) if config is None else config
        self._start(
            node_name(node),
            "flower-supernode", "--superlink", f"127.0.0.1:{self.port}",
            "--root-certificates", ca or keys / "ca.crt",
            *(("--auth-supernode-private-key", keys / "auth.key") if authenticated else ()),
            "--host", "127.0.0.1", "--port", free_port(),
            "--node-config", " ".join(f'{key}="{value}"' for key, value in config.items()),
        )  # fmt: skip

    def register(self, node: int) -> None:
        """Makes the node's key known to the SuperLink."""
        self.control.register(self.keys / f"public/{node_name(node)}.pub", node_name(node))

    def wait_until_online(self, node: int, seconds: float = 120.0, **settings: Any) -> None:
        """Returns when the node is connected, starting it anew whenever it gave up.

        Flower refuses a node that was killed until its last heartbeat is a minute old; what
        starts nodes has to try again, as systemd and Docker do.
        """
        name = node_name(node)
        started = self.log(name).count(CONNECTED)

        def is_online() -> bool:
            if name not in self._running or self._running[name].poll() is not None:
                self.start_node(node, **settings)
            return self.log(name).count(CONNECTED) > started

        wait_for(f"{name} is online", is_online, seconds, every=1.0)

    def settings(self, node: int) -> dict[str, object]:
        """Its shard, and where it keeps private parameters."""
        return {"data-dir": node_folder(self.shards, node), "state-dir": self.state(node)}

    def state(self, node: int) -> Path:
        """Where this node keeps private parameters."""
        return self.folder / "state" / node_name(node)

    def log(self, name: str) -> str:
        """What the process of this name has written, over all its starts."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, name: str) -> None:
        """SIGKILL to the process and all it started, as when the power fails."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_server_app(self) -> None:
        """SIGKILL to the process that runs the ServerApp, the SuperLink lives on."""
        for process in self._ours():
            if b"flwr-serverapp" in Path(f"/proc/{process}/cmdline").read_bytes():
                _signal(process, signal.SIGKILL)

    def exit_status(self, name: str, seconds: float) -> int:
        """The exit status of a process that ends by itself."""
        return self._running[name].wait(seconds)

    def stop(self) -> None:
        """Ends everything that is still running."""
        for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            for process in self._ours():
                _signal(process, number)
            deadline = time.monotonic() + seconds
            while self._ours() and time.monotonic() < deadline:
                time.sleep(0.2)
        for started in self._running.values():
            started.wait()
        self._running.clear()

    # Runs

    def submit(self, app: Path = CHECKOUT, **settings: bool | int | float | str) -> str:
        """Starts a run with small settings, changed by keyword arguments in snake_case."""
        values: Values = {
            "dataset": "ml-100k",
            "data-dir": str(self.shards / "server"),
            "home": str(self.home),
            "num-server-rounds": 3,
            "evaluate-every": 1,
            "checkpoint-every": 1,
            "expected-nodes": self._number_of_nodes,
            "tensorboard": False,
        }
        values |= {name.replace("_", "-"): value for name, value in settings.items()}
        if values.get("resume"):
            values.pop("run-name", None)
        return self.control.submit(app, [f"{key}={json.dumps(v)}" for key, v in values.items()])

    def completes(self, run_id: str, seconds: float = 300.0) -> None:
        """Asserts that the run completes in time; shows its log if not."""
        status, details = self.control.wait(run_id, seconds)
        assert status == "finished:completed", (
            f"{status} {details}\n{self.log('superlink')[-4000:]}"
        )

    def completes_round(self, run: str, number: int, seconds: float = 300.0) -> None:
        """Returns when this round is in the run's history."""
        wait_for(f"round {number}", lambda: len(self.rounds(run)) >= number, seconds)

    def history(self, run: str) -> list[dict[str, Any]]:
        """The lines of a run's history so far."""
        path = self.home / "runs" / run / "history.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rounds(self, run: str) -> list[dict[str, Any]]:
        """The training rounds of a run's history."""
        return [entry for entry in self.history(run) if entry["kind"] == "round"]

    def _start(self, name: str, command: str, *arguments: object) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [program(command), *map(str, arguments)],
                cwd=self.folder,  # no checkout: the code that runs is the one that was submitted
                env={
                    **environment(self.folder / "flower" / name),
                    MARK: self._mark,
                    "PYTHONUNBUFFERED": "1",
                    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
                    "OMP_NUM_THREADS": "1",  # several nodes share the machine's cores
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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


def wait_for_request(federation: Federation, name: str, kind: str, number: int) -> None:
    """Until the node has got this message, and a moment more."""

    def has_come() -> bool:
        after = federation.log(name).split(f"ROUND {number}]")[1:]
        return any(f"Receiving: {kind} message" in text for text in after)

    wait_for(f"{name} is asked to {kind} in round {number}", has_come, 240)
    time.sleep(0.5)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)

"""A real federation of processes on this machine: TLS, node authentication, ports of its own.

Flower's files, logs, keys, shards and state lie in one folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL

from mrff.config import full_names
from mrff.data.shard import node_folder
from mrff.ops.control import Control
from mrff.ops.keys import make_keys, node_name
from mrff.ops.processes import free_port, wait_for
from tests.support.processes import Processes

CHECKOUT = Path(__file__).resolve().parents[2]
CONNECTED = "SuperNode ID:"  # what a SuperNode logs then
Values = dict[str, bool | int | float | str]


class Federation(Processes):
    """A SuperLink and its SuperNodes; use as a context manager, which ends all of them.

    Args:
        folder: of everything this federation writes.
        shards: as `mrff.data.shard.shard` made them: ``node-0``, ..., ``server``.
        nodes: how many keys are made and registered; `start_node` starts them.
    """

    def __init__(self, folder: Path, shards: Path, *, nodes: int) -> None:
        super().__init__(folder)
        self.shards = shards
        self.keys, self.home = folder / "keys", folder / "home"
        self.port = free_port()
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
        self.start(
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
        self.start(
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

    def wait_until_online(self, node: int, seconds: float = 300.0, **settings: Any) -> None:
        """Returns when the node is connected, starting it anew whenever it gave up.

        Flower refuses a node that was killed until its last heartbeat is a minute old; what
        starts nodes has to try again, as systemd and Docker do.
        """
        name = node_name(node)
        started = self.log(name).count(CONNECTED)

        def is_online() -> bool:
            if not self.is_running(name):
                self.start_node(node, **settings)
            return self.log(name).count(CONNECTED) > started

        wait_for(f"{name} is online", is_online, seconds, every=1.0)

    def node_id(self, node: int) -> int:
        """The id that Flower gave it when it connected."""
        return int(self.log(node_name(node)).split(CONNECTED)[1].split()[0])

    def settings(self, node: int) -> dict[str, object]:
        """Its shard, where it keeps private parameters, and who it is in secure sums."""
        keys = self.keys / node_name(node)
        return {
            "data-dir": node_folder(self.shards, node),
            "state-dir": self.state(node),
            "secure-key": keys / "secure.key",
            "secure-roster": keys / "secure-roster.json",
        }

    def state(self, node: int) -> Path:
        """Where this node keeps private parameters."""
        return self.folder / "state" / node_name(node)

    def kill_server_app(self) -> None:
        """SIGKILL to the process that runs the ServerApp, the SuperLink lives on."""
        self.send("flwr-serverapp", signal.SIGKILL)

    @contextlib.contextmanager
    def frozen_server_app(self) -> Iterator[None]:
        """The ServerApp sees nothing of what happens meanwhile; Flower endures half a minute."""
        self.send("flwr-serverapp", signal.SIGSTOP)
        try:
            yield
        finally:
            self.send("flwr-serverapp", signal.SIGCONT)

    def online_until(self, node: int) -> float:
        """When (Unix time) Flower gives the node up if it hears nothing more; 0: never heard."""
        with contextlib.closing(sqlite3.connect(self.folder / "superlink.db")) as database:
            rows = database.execute(
                "SELECT online_until FROM node WHERE name = ?", (node_name(node),)
            )
            (found,) = rows.fetchone() or (None,)
            return float(found or 0.0)

    def sleep_until_heartbeat(self, node: int, *, before: float) -> None:
        """Returns so many seconds before the next heartbeat of the node is due."""
        wait_for(f"a sign of {node_name(node)}", lambda: self._heartbeat_due(node) > before, 60)
        time.sleep(self._heartbeat_due(node) - before)

    def _heartbeat_due(self, node: int) -> float:
        """Seconds until then: Flower counts two intervals from a heartbeat to the node's end."""
        return self.online_until(node) - time.time() - HEARTBEAT_DEFAULT_INTERVAL

    def wait_for_heartbeat(self, node: int) -> None:
        """Returns after the node was heard of, which happens every half minute, and got its answer.

        A node that is frozen before the answer comes has to try again afterwards, which takes time.
        """
        known = self.online_until(node)
        wait_for(f"a sign of {node_name(node)}", lambda: self.online_until(node) > known, 60)
        time.sleep(1.0)

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
            values.pop("name", None)
        values = full_names(values)
        return self.control.submit(app, [f"{key}={json.dumps(v)}" for key, v in values.items()])

    def completes(self, run_id: str, seconds: float = 900.0) -> None:
        """Asserts that the run completes in time; shows the server's log if not."""
        with contextlib.suppress(TimeoutError):  # the log tells it more cheaply than a command
            ended = re.compile(rf"Finished task \d+ of run {run_id}")
            wait_for("its end", lambda: ended.search(self.log("superlink")), seconds, every=0.5)
        status, details = self.control.wait(run_id, 60)
        assert status == "finished:completed", (
            f"{status} {details}\n{self.log('superlink')[-4000:]}"
        )

    def completes_round(self, run: str, number: int, seconds: float = 900.0) -> None:
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


def requests_taken(federation: Federation, name: str, kind: str, number: int) -> int:
    """How many messages of a round the node has got, of any run."""
    return len(_taken(federation, name, kind, number))


def wait_for_request(
    federation: Federation, name: str, kind: str, number: int, *, content: bool = False
) -> None:
    """Until the node has got such a message, and a moment more.

    Args:
        content: until its content has come, too, which the ServerApp sends after the message.
    """

    def has_come() -> bool:
        taken = _taken(federation, name, kind, number)
        return any(not content or "Received successfully" in text for text in taken)

    wait_for(f"{name} is asked to {kind} in round {number}", has_come, 240)
    time.sleep(0.5)


def _taken(federation: Federation, name: str, kind: str, number: int) -> list[str]:
    """What the node's log says of each such message."""
    after = federation.log(name).split(f", ROUND {number}]")[1:]
    texts = [text.split("ROUND")[0] for text in after]
    return [text for text in texts if f"Receiving: {kind} message" in text]

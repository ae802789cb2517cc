"""How long does a phase over many one-user nodes take: Flower's own loop against our window?

Both send the same messages to the same empty client in one Ray simulation:

    python benchmarks/flower_window.py --nodes 1800

A client answers with as many bytes as it gets. The first, uncounted phase starts Ray.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from measuring import read_options

from server_app.nodes import wait_for_nodes
from strategies.exchange import Exchange


def make_client() -> ClientApp:
    """A client that sends back what it got."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def make_server(options: argparse.Namespace) -> ServerApp:
    """A server that times one phase each way, the window first and last."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        def window(messages: list[Message]) -> Iterable[Message]:
            return Exchange(grid, messages, window=options.window, timeout=600.0)

        def stock(messages: list[Message]) -> Iterable[Message]:
            return grid.send_and_receive(messages, timeout=600.0)

        wait_for_nodes(grid, options.nodes, timeout=120.0)
        nodes = sorted(grid.get_node_ids())
        timed_phase(window, nodes[:4], options.kilobytes)
        ours = [timed_phase(window, nodes, options.kilobytes)]
        theirs = [] if options.skip_stock else [timed_phase(stock, nodes, options.kilobytes)]
        ours.append(timed_phase(window, nodes, options.kilobytes))
        cores, load = os.cpu_count(), os.getloadavg()[0]
        print(f"nodes {len(nodes)}, {options.kilobytes} KB each way, {cores} cores, load {load}")
        print(f"window {options.window}: " + ", ".join(map(str, ours)))
        for phase in theirs:
            ratio = phase.wall / (sum(phase.wall for phase in ours) / 2)
            print(f"send_and_receive: {phase}, ratio {ratio:.2f}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of the server process {peak:.0f} MB", flush=True)

    return app


@dataclass(frozen=True)
class Seconds:
    """Of a phase; the server process' own share of the cores tells more on a shared machine."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.processor:.1f} s of processor time)"


def timed_phase(
    send: Callable[[list[Message]], Iterable[Message]], nodes: list[int], kilobytes: int
) -> Seconds:
    """A phase, replies dropped as they arrive."""
    wall, processor = time.monotonic(), time.process_time()
    replies = sum(1 for _ in send(requests(nodes, kilobytes)))
    seconds = Seconds(time.monotonic() - wall, time.process_time() - processor)
    assert replies == len(nodes), f"{replies} of {len(nodes)} replies"
    return seconds


def requests(nodes: list[int], kilobytes: int) -> list[Message]:
    """One message per node that share their content."""
    arrays = {f"array-{i}": Array(np.zeros(kilobytes * 256 // 6, np.float32)) for i in range(6)}
    content = RecordDict({"arrays": ArrayRecord(arrays)})
    return [Message(content, dst_node_id=node, message_type="train") for node in nodes]


def main() -> None:
    """Reads the options and runs the simulation."""
    options = read_options(
        __doc__, nodes=1800, kilobytes=250, window=32, skip_stock={"action": "store_true"}
    )
    run_simulation(
        server_app=make_server(options),
        client_app=make_client(),
        num_supernodes=options.nodes,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )


if __name__ == "__main__":
    main()

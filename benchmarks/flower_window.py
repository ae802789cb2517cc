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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from server_app.nodes import wait_for_nodes
from strategies.exchange import Exchange


def make_client() -> ClientApp:
    """A client that sends back what it got."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def make_server(arguments: argparse.Namespace) -> ServerApp:
    """A server that times one phase each way, the window first and last."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        wait_for_nodes(grid, arguments.nodes, timeout=120.0)
        nodes = sorted(grid.get_node_ids())
        window_phase(grid, nodes[:4], arguments)
        ours = [window_phase(grid, nodes, arguments)]
        stock = [] if arguments.skip_stock else [stock_phase(grid, nodes, arguments)]
        ours.append(window_phase(grid, nodes, arguments))
        cores, load = os.cpu_count(), os.getloadavg()[0]
        print(f"nodes {len(nodes)}, {arguments.kilobytes} KB each way, {cores} cores, load {load}")
        print(f"window {arguments.window}: " + ", ".join(_shown(phase) for phase in ours))
        if stock:
            ratio = stock[0].wall / (sum(phase.wall for phase in ours) / 2)
            print(f"send_and_receive: {_shown(stock[0])}, ratio {ratio:.2f}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of the server process {peak:.0f} MB", flush=True)

    return app


@dataclass(frozen=True)
class Seconds:
    """Of a phase; the server process' own share of the cores tells more on a shared machine."""

    wall: float
    processor: float


def _shown(seconds: Seconds) -> str:
    return f"{seconds.wall:.1f} s ({seconds.processor:.1f} s of processor time)"


@contextmanager
def _timed(result: list[Seconds]) -> Iterator[None]:
    wall, processor = time.monotonic(), time.process_time()
    yield
    result.append(Seconds(time.monotonic() - wall, time.process_time() - processor))


def requests(nodes: list[int], kilobytes: int) -> list[Message]:
    """One message per node that share their content."""
    arrays = {f"array-{i}": Array(np.zeros(kilobytes * 256 // 6, np.float32)) for i in range(6)}
    content = RecordDict({"arrays": ArrayRecord(arrays)})
    return [Message(content, dst_node_id=node, message_type="train") for node in nodes]


def window_phase(grid: Grid, nodes: list[int], arguments: argparse.Namespace) -> Seconds:
    """A phase through `Exchange`, replies dropped as they arrive."""
    seconds: list[Seconds] = []
    with _timed(seconds):
        messages = requests(nodes, arguments.kilobytes)
        replies = sum(1 for _ in Exchange(grid, messages, window=arguments.window, timeout=600.0))
    assert replies == len(nodes), f"{replies} of {len(nodes)} replies"
    return seconds[0]


def stock_phase(grid: Grid, nodes: list[int], arguments: argparse.Namespace) -> Seconds:
    """A phase through Flower's own loop."""
    seconds: list[Seconds] = []
    with _timed(seconds):
        replies = list(grid.send_and_receive(requests(nodes, arguments.kilobytes), timeout=600.0))
    assert len(replies) == len(nodes), f"{len(replies)} of {len(nodes)} replies"
    return seconds[0]


def main() -> None:
    """Reads the arguments and runs the simulation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1800)
    parser.add_argument("--kilobytes", type=int, default=250)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--skip-stock", action="store_true")
    arguments = parser.parse_args()
    run_simulation(
        server_app=make_server(arguments),
        client_app=make_client(),
        num_supernodes=arguments.nodes,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )


if __name__ == "__main__":
    main()

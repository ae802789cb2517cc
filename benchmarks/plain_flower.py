"""How long is a round of Flower as its tutorials have it, a node per user, and one of ours?

    python benchmarks/plain_flower.py --dataset ~/.mrff/data/kuaisar-r --rounds 3

Both train the same users from the same network in Ray's simulation, one shared network as in the
method `fedadam`, one full gradient step of every user in every round, on all processors. Theirs is
`FedAvg` with a plain client per user (`plain_client.py`); ours is `mrff run` with the users on two
nodes. A round is from its first message to the new model; the first one starts processes and is
left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from flower_overhead import measure
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from measuring import read_options, show, text
from plain_client import make_client, opened, shared_parameters
from population import prepared_folder

from mrff.config.methods import METHODS
from server_app.nodes import wait_for_nodes


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(
        __doc__, "dataset", "made_up_users", "json", rounds=3, nodes=2, cpus_per_node=1
    )
    if options.rounds < 2:
        raise SystemExit("at least 2 rounds are needed: the first one is left out")
    overrides = METHODS["fedadam"].overrides
    options.set = [f"{name}={text(value)}" for name, value in overrides.items()]
    with prepared_folder(options.dataset, made_up=options.made_up_users) as folder:
        with tempfile.TemporaryDirectory() as home:
            ours = measure(folder, Path(home), options.nodes, options)
        theirs = plain_rounds(folder, options)
    seconds = statistics.median(theirs[1:])
    result = {
        "users": ours["users"],
        "plain_seconds": seconds,
        "our_seconds": ours["round_seconds"],
        "ratio": seconds / ours["round_seconds"],
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    show([result], options.json)


def plain_rounds(folder: Path, options: argparse.Namespace) -> list[float]:
    """The seconds of each round of a plain app with a node for every user."""
    settings = {"training.sampling-rate": 1.0, **METHODS["fedadam"].overrides}
    population = opened(folder, tuple(settings.items()))
    timed, app, nodes = Timed(), ServerApp(), len(population.cohort)
    start = shared_parameters(population)

    @app.main()
    def serve(grid: Grid, context: Context) -> None:
        wait_for_nodes(grid, nodes, timeout=300.0)
        arrays = ArrayRecord({name: Array(value.detach().numpy()) for name, value in start.items()})
        timed.start(grid, arrays, num_rounds=options.rounds)

    run_simulation(
        server_app=app,
        client_app=make_client(folder, settings),
        num_supernodes=nodes,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )
    return timed.seconds


class Timed(FedAvg):
    """Flower's own strategy with a clock."""

    def __init__(self) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.seconds: list[float] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As Flower does; the round begins."""
        self.seconds.append(time.monotonic())
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As Flower does; the round ends."""
        result = super().aggregate_train(server_round, replies)
        self.seconds[-1] = time.monotonic() - self.seconds[-1]
        return result


if __name__ == "__main__":
    main()

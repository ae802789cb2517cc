"""What does Flower add to a round: the same users on 1, 2, 8 nodes, and on one node each?

    python benchmarks/flower_overhead.py --dataset ~/.mrff/data/kuaisar-r --nodes 1 2 8 1791

Every layout is a run of its own through ``flwr run``'s simulation. The seconds are the run's own,
from the first message of a training phase to the new model; the first round starts the processes
and is left out. Compare with `round_speed.py`: what is more is Flower, messages and aggregation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from measuring import read_options, show
from population import prepared_folder

from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import read_settings, simulate
from server_app.run.history import read_history


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(
        __doc__,
        *("dataset", "set", "json"),
        nodes={"type": int, "nargs": "+", "default": [1, 2, 8]},
        rounds=6,
        cpus_per_node=1,
    )
    with prepared_folder(options.dataset) as folder, tempfile.TemporaryDirectory() as home:
        results = [measure(folder, Path(home), nodes, options) for nodes in options.nodes]
    show(results, options.json)


def measure(folder: Path, home: Path, nodes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a training round with the users spread over ``nodes``."""
    name = f"nodes-{nodes}"
    values = {
        "data.dataset": folder.name, "data.data-dir": str(folder), "data.home": str(home),
        "run.name": name, "run.tensorboard": False, "training.sampling-rate": 1.0,
        "server.num-server-rounds": options.rounds, "evaluation.evaluate-every": options.rounds,
        "run.fit-settings": False, **read_settings(None, options.set),
    }  # fmt: skip
    with termination_interrupts():
        simulate(values, Federation(nodes, options.cpus_per_node))
    history = read_history(home / "runs" / name / "history.jsonl")
    rounds = [entry for entry in history if entry["kind"] == "round"]
    seconds = [entry["seconds"] for entry in rounds]
    return {
        "nodes": nodes,
        "users": rounds[-1]["users"],
        "first_round_seconds": seconds[0],
        "round_seconds": statistics.median(seconds[1:]),
        "slowest_round_seconds": max(seconds[1:]),
        "load_average": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()

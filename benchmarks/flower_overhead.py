"""What does Flower add to a round: the same users on 1, 2, 8 nodes, and on one node each?

    python benchmarks/flower_overhead.py --dataset ~/.mrff/data/kuaisar-r --nodes 1 2 8 1791

Every layout is a run of its own through ``flwr run``'s simulation. The seconds are the run's own,
from the first message of a training phase to the new model; the first round starts the processes
and is left out. Compare with `round_speed.py`: what is more is Flower, messages and aggregation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmark_table import print_table
from population import parse_settings, prepared_folder

from mrff.config import full_names
from mrff.ops.simulation import simulate
from server_app.run.history import read_history


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a prepared folder; none: made-up users")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cpus-per-node", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with prepared_folder(arguments.dataset) as folder, tempfile.TemporaryDirectory() as home:
        results = [measure(folder, Path(home), nodes, arguments) for nodes in arguments.nodes]
    print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(folder: Path, home: Path, nodes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a training round with the users spread over ``nodes``."""
    settings = parse_settings(arguments.set)
    name = f"nodes-{nodes}"
    values = {
        "dataset": folder.name, "data-dir": str(folder), "home": str(home), "run.name": name,
        "num-server-rounds": arguments.rounds, "evaluate-every": arguments.rounds,
        "sampling-rate": 1.0, "tensorboard": False,
    }  # fmt: skip
    values = full_names(values) | full_names(settings)
    simulate(values, nodes=nodes, cpus_per_node=arguments.cpus_per_node, app=None)
    rounds = [
        entry for entry in read_history(home / "runs" / name / "history.jsonl")
        if entry["kind"] == "round"
    ]  # fmt: skip
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

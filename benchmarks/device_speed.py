"""How fast is a training round on a node's GPU, against the same round on its CPU?

Both sides train the same users from the same start with the cohort learner, take turns in one
process, and must give the same result:

    python benchmarks/device_speed.py --dataset ~/.mrff/data/kuaisar-r

Settings as in `round_speed.py`. Times are medians and include the copies to the GPU and back.
"""

from __future__ import annotations

import argparse
import statistics
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from benchmark_table import print_table
from population import open_population, parse_settings, prepared_folder
from round_speed import largest_difference, timed_round


def main() -> None:
    """Prints a table of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a prepared folder; none: made-up users")
    parser.add_argument("--users", type=int, default=0, help="0: all of them")
    parser.add_argument("--made-up-users", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here: there is nothing to compare")
    torch.set_num_threads(arguments.threads)

    with prepared_folder(arguments.dataset, made_up=arguments.made_up_users) as folder:
        on_cpu = open_population(
            folder, users=arguments.users, settings=parse_settings(arguments.set)
        )
    on_gpu = replace(on_cpu, network=deepcopy(on_cpu.network).to("cuda"))
    sides = {"cpu": on_cpu, "gpu": on_gpu}
    results = {name: timed_round(side, "cohort")[0] for name, side in sides.items()}  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.repeats):
        for name, side in sides.items():
            seconds[name].append(timed_round(side, "cohort")[1])
    cpu, gpu = (statistics.median(taken) for taken in seconds.values())
    print_table(
        [
            {
                "users": len(on_cpu.cohort.users),
                "threads": arguments.threads,
                "gpu": torch.cuda.get_device_name(),
                "cpu_seconds": cpu,
                "gpu_seconds": gpu,
                "ratio": cpu / gpu,
                "gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20,
                "largest_difference": largest_difference(results["cpu"], results["gpu"]),
                "same_routes": int((results["cpu"].routes == results["gpu"].routes).all()),
            }
        ]
    )


if __name__ == "__main__":
    main()

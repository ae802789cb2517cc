"""How fast is a training round inside a client: the serial oracle against the cohort learner?

Both train the same users from the same start in one process, and must give the same result:

    python benchmarks/round_speed.py --dataset ~/.mrff/data/kuaisar-r --threads 1

The defaults are the paper's size: L = 65, 8 dimensions per feature, 2 layers, K = 4, every user,
one SGD step. Other settings go through ``--set key=value``. Times are medians; the two learners
take turns, so that both meet the same disturbances.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from benchmark_table import print_table
from population import (
    Population,
    open_population,
    parse_settings,
    plain_client,
    prepared_folder,
)
from torch.utils.flop_counter import FlopCounterMode

from client_app.learners import Trained
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner

LEARNERS = {"cohort": CohortLearner, "serial": SerialLearner}


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a prepared folder; none: made-up users")
    parser.add_argument("--users", type=int, default=0, help="0: all of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="of the cohort learner")
    parser.add_argument("--serial-repeats", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    with prepared_folder(arguments.dataset) as folder:
        population = open_population(
            folder, users=arguments.users, settings=parse_settings(arguments.set)
        )
    rate = matmul_rate()
    result = compare(population, arguments.repeats, arguments.serial_repeats)
    work = floating_point_operations(population)
    result |= {
        "users": len(population.cohort.users),
        "threads": arguments.threads,
        "matmul_gflop_per_second": rate / 1e9,
        "round_gflop": work / 1e9,
        "share_of_matmul_peak": work / result["cohort_seconds"] / rate,
    }
    print_table([result])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def compare(population: Population, repeats: int, serial_repeats: int) -> dict[str, float]:
    """Medians of both learners' seconds, the largest difference and the peak memory."""
    seconds: dict[str, list[float]] = {"cohort": [], "serial": []}
    results: dict[str, Trained] = {}
    results["cohort"], _ = timed_round(population, "cohort")  # the first one is not counted
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for turn in range(max(repeats, serial_repeats)):
        for name, most in (("serial", serial_repeats), ("cohort", repeats)):
            if turn < most:
                results[name], taken = timed_round(population, name)
                seconds[name].append(taken)
    difference = largest_difference(results["serial"], results["cohort"])
    if difference > 1e-5 or not np.array_equal(results["serial"].routes, results["cohort"].routes):
        raise SystemExit(f"the learners disagree by {difference:g}")
    serial, cohort = (statistics.median(seconds[name]) for name in ("serial", "cohort"))
    return {
        "serial_seconds": serial,
        "cohort_seconds": cohort,
        "ratio": serial / cohort,
        "peak_rss_mb": peak,  # of the process after a cohort round
        "largest_difference": difference,
    }


def timed_round(population: Population, learner: str) -> tuple[Trained, float]:
    """One round's outcome and its seconds."""
    cohort, config = population.cohort, population.config
    chosen = LEARNERS[learner](population.network, config)
    mechanism = plain_client(config, cohort.keys)
    began = time.perf_counter()
    trained = chosen.train(population.model, cohort, mechanism)
    return trained, time.perf_counter() - began


def largest_difference(one: Trained, other: Trained) -> float:
    """Between mean updates, and between private parameters."""
    largest, weight = 0.0, one.sums.number("weight")
    for part, mine, theirs, scale in (
        ("shared", one.sums.updates, other.sums.updates, weight),
        ("private", one.private, other.private, 1.0),
    ):
        if mine.keys() != theirs.keys():
            raise SystemExit(f"the learners give different {part} arrays")
        for name, values in mine.items():
            largest = max(largest, float(abs(values - theirs[name]).max()) / scale)
    return largest


def matmul_rate(size: int = 1024, repeats: int = 40) -> float:
    """Floating-point operations per second that this machine reaches in a large product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / statistics.median(times)


def floating_point_operations(population: Population) -> int:
    """Of all matrix products in a cohort round, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        timed_round(population, "cohort")
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()

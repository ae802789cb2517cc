"""How fast is a training round inside a client: the serial oracle against the cohort learner?

Both train the same users from the same start in one process, and must give the same result:

    python benchmarks/round_speed.py --dataset ~/.mrff/data/kuaisar-r --threads 1

The defaults are the paper's size: L = 65, 8 dimensions per feature, 2 layers, K = 4, every user,
one SGD step. Other settings go through ``--set key=value``. Times are medians; the two learners
take turns, so that both meet the same disturbances.
"""

from __future__ import annotations

import resource
from functools import partial

import numpy as np
import torch
from measuring import read_options, show, take_turns
from population import POPULATION, Population, chosen_population, plain_client
from torch.utils.flop_counter import FlopCounterMode

from client_app.learners import Trained
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner

LEARNERS = {"cohort": CohortLearner, "serial": SerialLearner}


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(
        __doc__,
        *(*POPULATION, "threads", "json"),
        repeats={"type": int, "default": 5, "help": "of the cohort learner"},
        serial_repeats=3,
    )
    torch.set_num_threads(options.threads)
    population = chosen_population(options)
    rate = matmul_rate()
    result = compare(population, options.repeats, options.serial_repeats)
    work = floating_point_operations(population)
    result |= {
        "users": len(population.cohort.users),
        "threads": options.threads,
        "matmul_gflop_per_second": rate / 1e9,
        "round_gflop": work / 1e9,
        "share_of_matmul_peak": work / result["cohort_seconds"] / rate,
    }
    show([result], options.json)


def compare(population: Population, repeats: int, serial_repeats: int) -> dict[str, float]:
    """Medians of both learners' seconds, the largest difference and the peak memory."""
    sides = {name: partial(train_round, population, name) for name in ("serial", "cohort")}
    sides["cohort"]()  # the first one is not counted
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    most = max(repeats, serial_repeats)
    fewer = {"serial": serial_repeats, "cohort": repeats}
    serial, cohort = take_turns(sides, most, fewer=fewer).values()
    difference = largest_difference(serial.result, cohort.result)
    if difference > 1e-5 or not np.array_equal(serial.result.routes, cohort.result.routes):
        raise SystemExit(f"the learners disagree by {difference:g}")
    return {
        "serial_seconds": serial.median,
        "cohort_seconds": cohort.median,
        "ratio": serial.median / cohort.median,
        "peak_rss_mb": peak,  # of the process after a cohort round
        "largest_difference": difference,
    }


def train_round(population: Population, learner: str) -> Trained:
    """One round's outcome."""
    cohort, config = population.cohort, population.config
    mechanism = plain_client(config, cohort.keys)
    return LEARNERS[learner](population.network, config).train(population.model, cohort, mechanism)


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
    return 2.0 * size**3 / take_turns({0: lambda: left @ right}, repeats)[0].median


def floating_point_operations(population: Population) -> int:
    """Of all matrix products in a cohort round, forward and backward."""
    torch.set_num_threads(1)  # the counter sees this thread alone
    with FlopCounterMode(display=False) as counter:
        train_round(population, "cohort")
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()

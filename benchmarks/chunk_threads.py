"""What does a thread for each chunk of users save, against threads that share out each product?

    python benchmarks/chunk_threads.py --dataset ~/.mrff/data/kuaisar-r --threads 2

The same round of the cohort learner either way, in turns: seconds and CPU seconds, medians.
"""

from __future__ import annotations

import time
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from measuring import read_options, show, take_turns
from population import POPULATION, Population, chosen_population
from round_speed import largest_difference, train_round

from client_app.learners import Trained, side_by_side

CLOCKS = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}


def main() -> None:
    """Prints both sides and their ratio."""
    options = read_options(__doc__, *POPULATION, "json", threads=2, repeats=7)
    torch.set_num_threads(options.threads)
    population = chosen_population(options)
    sides = {
        "shared_out": partial(_shared_out, population),
        "chunk_each": partial(train_round, population, "cohort"),
    }
    one, other = (side() for side in sides.values())  # the first one is not counted
    difference = largest_difference(one, other)
    if difference > 1e-5 or not np.array_equal(one.routes, other.routes):
        raise SystemExit(f"the two disagree by {difference:g}")
    row: dict[str, float] = {"users": len(population.cohort.users), "threads": options.threads}
    for what, clock in CLOCKS.items():
        found = take_turns(sides, options.repeats, clock=clock)
        row |= {f"{side}_{what}": taken.median for side, taken in found.items()}
        row[f"{what}_ratio"] = row[f"shared_out_{what}"] / row[f"chunk_each_{what}"]
    show([row | {"largest_difference": difference}], options.json)


def _shared_out(population: Population) -> Trained:
    with patch.object(side_by_side, "chunks_at_once", lambda device: 1):
        return train_round(population, "cohort")


if __name__ == "__main__":
    main()

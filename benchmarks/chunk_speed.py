"""How many positions should a chunk of users have on a CPU core?

Large chunks make fewer calls, small ones stay in the cache. The same round of the cohort learner
with several limits in one process, which take turns:

    python benchmarks/chunk_speed.py --dataset ~/.mrff/data/kuaisar-r --config conf/kuaisar-r.toml

CPU seconds on one core, medians; the ratio is to the limit of today.
"""

from __future__ import annotations

import time
from functools import partial

import torch
from measuring import read_options, show, take_turns
from population import POPULATION, Population, chosen_population
from round_speed import largest_difference, train_round

from client_app.learners import Trained
from client_app.learners import cohort as cohort_learner

LIMITS = (1024, 2048, 4096, 8192, 16384)
TODAY = cohort_learner.CACHE_POSITIONS


def main() -> None:
    """Prints a column per limit."""
    options = read_options(__doc__, *POPULATION, users=90, repeats=5)
    torch.set_num_threads(1)
    population = chosen_population(options)
    expected = train_round(population, "cohort")  # warms up
    sides = {limit: partial(train_in_chunks, population, limit) for limit in LIMITS}
    found = take_turns(sides, options.repeats, clock=time.process_time)
    for limit, side in found.items():
        difference = largest_difference(side.result, expected)
        assert difference < 1e-4, f"{limit} positions: another result, by {difference:.1g}"
    today = found[TODAY].median
    show(
        [
            {"positions": limit, "CPU seconds": side.median, "ratio": side.median / today}
            for limit, side in found.items()
        ]
    )


def train_in_chunks(population: Population, limit: int) -> Trained:
    """A round with at most ``limit`` positions in a chunk."""
    cohort_learner.CACHE_POSITIONS = limit
    return train_round(population, "cohort")


if __name__ == "__main__":
    main()

"""What is it worth to keep what heads read of users' records from one round to the next?

    python benchmarks/remembered_speed.py --dataset ~/.mrff/data/ml-1m --config conf/ml-1m.toml

The same round, and the same validation, of the first ``--users`` users: with these numbers computed
every time, as in a deployed node's process, and with all of them kept, as in a simulation's worker
from the second time on. CPU seconds of this process, medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import read_options, show, take_turns
from population import POPULATION, Population, chosen_population
from round_speed import train_round

from client_app.learners import remembered
from client_app.learners.cohort import CohortLearner


def main() -> None:
    """Prints a column for training and one for validation."""
    options = read_options(__doc__, *POPULATION, "threads", "json", users=300, repeats=5)
    torch.set_num_threads(options.threads)
    population = chosen_population(options)
    rows = [
        {"what": what, **compared(population, work, options.repeats)}
        for what, work in (("a round", train_round), ("a validation", validation))
    ]
    show(rows, options.json)


def compared(
    population: Population, work: Callable[..., Any], repeats: int
) -> dict[str, float | int]:
    """Both sides in turns."""
    sides = {most: partial(_with_room, most, work, population) for most in (0, 2**40)}
    for side in sides.values():  # the first one is not counted
        side()
    anew, kept = take_turns(sides, repeats, clock=time.process_time).values()
    return {
        "users": len(population.cohort.users),
        "anew_seconds": anew.median,
        "kept_seconds": kept.median,
        "ratio": anew.median / kept.median,
    }


def validation(population: Population, _: str) -> None:
    """Scores everybody's validation rows."""
    learner = CohortLearner(population.network, population.config)
    learner.score(population.model, population.cohort, "valid")


def _with_room(most: int, work: Callable[..., Any], population: Population) -> None:
    """With no room at all nothing is looked up, either."""
    kept, remembered.MOST_BYTES = remembered.MOST_BYTES, most
    memories = dict(remembered._memories)
    if not most:
        remembered._memories.clear()
    try:
        work(population, "cohort")
    finally:
        remembered.MOST_BYTES = kept
        if not most:
            remembered._memories.update(memories)


if __name__ == "__main__":
    main()

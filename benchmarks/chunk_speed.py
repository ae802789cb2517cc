"""How many positions should a chunk of users have on a CPU core?

Large chunks make fewer calls, small ones stay in the cache. The same round of the cohort learner
with several limits in one process, which take turns:

    python benchmarks/chunk_speed.py --dataset ~/.mrff/data/kuaisar-r --config conf/kuaisar-r.toml

CPU seconds on one core, medians; the ratio is to the limit of today.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tomllib
from pathlib import Path

import torch
from benchmark_table import print_table
from population import open_population, parse_settings, prepared_folder
from round_speed import largest_difference, timed_round

from client_app.learners import cohort as cohort_learner
from mrff.config import full_names

LIMITS = (1024, 2048, 4096, 8192, 16384)
TODAY = cohort_learner.CACHE_POSITIONS


def main() -> None:
    """Prints a column per limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a prepared folder; none: made-up users")
    parser.add_argument("--config", type=Path, help="settings, as in conf/")
    parser.add_argument("--users", type=int, default=90, help="0: all of them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {} if arguments.config is None else tomllib.loads(arguments.config.read_text())
    settings = full_names(given)
    settings.pop("data.dataset", None)
    settings |= full_names(parse_settings(arguments.set))

    with prepared_folder(arguments.dataset) as folder:
        population = open_population(folder, users=arguments.users, settings=settings)
    expected, _ = timed_round(population, "cohort")  # warms up
    taken: dict[int, list[float]] = {limit: [] for limit in LIMITS}
    for _ in range(arguments.repeats):
        for limit, seconds in taken.items():
            cohort_learner.CACHE_POSITIONS = limit
            began = time.process_time()
            trained, _ = timed_round(population, "cohort")
            seconds.append(time.process_time() - began)
            difference = largest_difference(trained, expected)
            assert difference < 1e-4, f"{limit} positions: another result, by {difference:.1g}"
    medians = {limit: statistics.median(seconds) for limit, seconds in taken.items()}
    print_table(
        [
            {"positions": limit, "CPU seconds": seconds, "ratio": seconds / medians[TODAY]}
            for limit, seconds in medians.items()
        ]
    )


if __name__ == "__main__":
    main()

"""How do a node's time and memory grow with its users, when a round samples always as many?

    python benchmarks/scale.py --users 1000 10000 100000 1000000

For every size, in a process of its own: a made-up population is written as a prepared folder,
loaded, and trained for some rounds of ``--cohort`` sampled users with the real private store.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import read_options, show
from population import model_of, network_of, plain_client
from synthetic import write_population

from client_app.learners import Cohort
from client_app.learners.cohort import CohortLearner
from client_app.private_store import PrivateStore
from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.data.windows import eligible_users
from mrff.sums.sampling import sampled_users
from mrff_model.building import tensors_of


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(
        __doc__,
        *("threads", "json"),
        users={"type": int, "nargs": "+", "default": [1_000, 10_000, 100_000], "help": None},
        cohort={"type": int, "default": 1_000, "help": "users per round, on average"},
        rounds=6,
        one={"action": "store_true", "help": argparse.SUPPRESS},
    )
    if options.one:
        torch.set_num_threads(options.threads)
        print(json.dumps(measure(options.users[0], options.cohort, options.rounds)))
        return
    results = []
    for users in options.users:
        command = [sys.executable, __file__, "--one", "--users", str(users)]
        for name in ("cohort", "rounds", "threads"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    show(results, options.json)


def measure(users: int, cohort: int, rounds: int) -> dict[str, Any]:
    """Seconds and megabytes for one population; medians over the rounds after the first."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, state = Path(temporary) / "data", Path(temporary) / "state"
        began = time.perf_counter()
        write_population(folder, users)
        prepared = time.perf_counter() - began
        began = time.perf_counter()
        dataset = load_dataset(folder)
        opened = time.perf_counter() - began
        opened_memory = _peak()
        rate = min(1.0, cohort / users)
        config = RunConfig.from_flat({"data.dataset": "synthetic", "training.sampling-rate": rate})
        network = network_of(dataset, config)
        start = model_of(network)
        initial = {name: value.clone() for name, value in tensors_of(network, "private").items()}
        learner = CohortLearner(network, config)
        everyone = eligible_users(dataset, holdout=config.data.holdout)
        store = PrivateStore(state)
        times: dict[str, list[float]] = {
            "sample": [], "store_load": [], "train": [], "store_save": [],
        }  # fmt: skip
        per_user = []
        for number in range(1, rounds + 1):
            marks = [time.perf_counter()]
            chosen = sampled_users(0, number, dataset.user_keys[everyone], rate)
            rows = everyone[chosen]
            keys = dataset.user_keys[rows]
            marks.append(time.perf_counter())
            private, routes = store.load(
                keys, up_to_round=number - 1, initial=initial, num_layers=2
            )
            marks.append(time.perf_counter())
            trained = learner.train(
                replace(start, round_number=number),
                Cohort(dataset, rows, private, routes),
                plain_client(config, keys),
            )
            marks.append(time.perf_counter())
            store.save(
                keys, trained.private, trained.routes,
                round_number=number, keep_up_to=(),
            )  # fmt: skip
            marks.append(time.perf_counter())
            for name, seconds in zip(times, np.diff(marks), strict=True):
                times[name].append(float(seconds))
            per_user.append((marks[-1] - marks[0]) / len(rows))
        stored = sum(file.stat().st_size for file in state.iterdir())
        return {
            "users": users,
            "cohort": len(rows),
            "prepare_seconds": prepared,
            "open_seconds": opened,
            **{f"{n}_seconds": statistics.median(taken[1:]) for n, taken in times.items()},
            "ms_per_user": 1e3 * statistics.median(per_user[1:]),
            "opened_rss_mb": opened_memory,
            "peak_rss_mb": _peak(),
            "store_mb": stored / 2**20,
        }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

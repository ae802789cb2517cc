"""Are federated rivals run as their authors run them? Their figures, by their own protocol.

    python benchmarks/federated_rivals.py --dataset HOME/data/ml-100k --method pfedrec \\
        --set local-learning-rate=13456 --set private-learning-rate=0.1 --set initial-scale=1.0

CONTAMINATED: negatives of training spare the held-out items, and an answer is one of 100. The
figures compare with those of the papers and with nothing else. With `--leak-free` negatives are
drawn from all that is not trained on, and answers rank among all items not met: one more way to the
figures of fedmf and pfedrec, and the only one to those of gpfedrec, whose server must see every
user's table (simulated, see `mrff.experiments.rivals.graph_guided`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import read_options

from client_app.learners.negatives import Met
from mrff.config import RunConfig, full_names
from mrff.config.methods import overrides_of
from mrff.data.dataset import Dataset, load_dataset
from mrff.experiments.rivals.full_rank import measured
from mrff.experiments.rivals.graph_guided import GraphGuided
from mrff.experiments.rivals.rounds import LocalRounds
from mrff.experiments.rivals.sampled import Candidates
from mrff.ops.simulation import read_settings

SIMULATED = "gpfedrec"


def main() -> None:
    """Prints the test at the best round of validation, for each seed."""
    options = read_options(
        __doc__,
        *("set",),
        dataset={"type": Path, "required": True},
        method="pfedrec",
        rounds=100,
        every=5,
        seeds={"type": int, "nargs": "+", "default": [0]},
        leak_free={"action": "store_true"},
    )
    dataset = load_dataset(options.dataset)
    drawn = "leak-free, full rank" if options.leak_free else "CONTAMINATED, among 99 drawn"
    found = []
    for seed in options.seeds:
        given = read_settings(None, options.set) | {"training.seed": seed}
        base = overrides_of("fedmf" if options.method == SIMULATED else options.method)
        number = full_names({"num-server-rounds": options.rounds})
        config = RunConfig.from_flat({**base, **number, **given})
        best_round, (hits, gain) = best_of(options, dataset, config)
        found.append((hits, gain))
        told = f"HR@10 {hits:.4f}  NDCG@10 {gain:.4f}  round {best_round} of {options.rounds}"
        print(f"{options.method} seed {seed}  {drawn}: {told}", flush=True)
    print(f"mean {np.mean(found, 0).round(4)}  deviation {np.std(found, 0).round(4)}")


def best_of(options: Any, dataset: Dataset, config: RunConfig) -> tuple[int, tuple[float, float]]:
    """The best round by validation (the papers' HR@10, else NDCG@10), and the test there."""
    met: Met = "training" if options.leak_free else "all"
    kind = GraphGuided if options.method == SIMULATED else LocalRounds
    rounds = kind(dataset, config, met)
    candidates = None
    if not options.leak_free:
        candidates = Candidates.drawn(dataset, rounds.users, config.training.seed)
    best, best_round, test = -1.0, 0, (0.0, 0.0)
    for number in range(1, options.rounds + 1):
        began, loss = time.perf_counter(), rounds.train()
        if number % options.every and number < options.rounds:
            continue
        seconds = time.perf_counter() - began
        if candidates is None:
            ranks = [measured(dataset, rounds.users, rounds.scores(), p) for p in ("valid", "test")]
            valid, tested = ((m["hr10"], m["ndcg10"]) for m in ranks)
            value = valid[1]
        else:
            parts = candidates.measured(rounds.scores())
            valid, tested = parts["valid"], parts["test"]
            value = valid[0]
        print(f"round {number}  loss {loss:.4f}  {valid}  {tested}  {seconds:.1f} s", flush=True)
        if value > best:
            best, best_round, test = value, number, tested
    return best_round, test


if __name__ == "__main__":
    main()

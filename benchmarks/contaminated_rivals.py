"""Are federated rivals run as their authors run them? Their figures, by their own protocol.

    python benchmarks/contaminated_rivals.py --dataset HOME/data/ml-100k --method pfedrec \\
        --set local-learning-rate=13456 --set private-learning-rate=0.1 --set initial-scale=1.0

CONTAMINATED: negatives of training spare the held-out items, and an answer is one of 100. The
figures compare with those of the papers and with nothing else. `--leak-free` draws the negatives
from all that is not trained on, which shows what the contamination is worth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from measuring import read_options

from mrff.config import RunConfig, full_names
from mrff.config.methods import overrides_of
from mrff.data.dataset import load_dataset
from mrff.experiments.rivals.rounds import LocalRounds
from mrff.experiments.rivals.sampled import Candidates
from mrff.ops.simulation import read_settings

EVERY = 5  # rounds between validations


def main() -> None:
    """Prints the test at the round with the best HR@10 of validation, for each seed."""
    options = read_options(
        __doc__,
        *("set",),
        dataset={"type": Path, "required": True},
        method="pfedrec",
        rounds=100,
        seeds={"type": int, "nargs": "+", "default": [0]},
        leak_free={"action": "store_true"},
    )
    dataset = load_dataset(options.dataset)
    found = []
    for seed in options.seeds:
        given = read_settings(None, options.set) | {"training.seed": seed}
        rounds_of_run = full_names({"num-server-rounds": options.rounds})
        config = RunConfig.from_flat({**overrides_of(options.method), **rounds_of_run, **given})
        rounds = LocalRounds(dataset, config, "training" if options.leak_free else "all")
        candidates = Candidates.drawn(dataset, rounds.everybody.users, seed)
        best = (-1.0, 0, (0.0, 0.0))
        for number in range(1, options.rounds + 1):
            loss = rounds.train()
            if number % EVERY == 0 or number == options.rounds:
                measured = candidates.measured(rounds.scores())
                print(f"round {number}  loss {loss:.4f}  {measured}", flush=True)
                best = max(best, (measured["valid"][0], number, measured["test"]))
        found.append(best[2])
        drawn = "leak-free negatives" if options.leak_free else "CONTAMINATED"
        hits, gain = best[2]
        print(
            f"{options.method} seed {seed}: {drawn}, among 99 drawn: HR@10 {hits:.4f} "
            f"NDCG@10 {gain:.4f} at round {best[1]} of {options.rounds}"
        )
    print(f"mean {np.mean(found, 0).round(4)}  deviation {np.std(found, 0).round(4)}")


if __name__ == "__main__":
    main()

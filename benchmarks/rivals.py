"""How well do rivals find the next item that see everybody's data in one place?

    python benchmarks/rivals.py --config conf/ml-1m-next.toml --methods ease slit --csv FILE

Each method is tuned by validation: one candidate of its grid after the other (their number is the
budget, declared in `mrff/experiments/central/`), tested once with the best. One row per method and
seed; a row that is there already is replaced. ``--set`` overrides the configuration; of networks
it says how many passes they make, ``num-server-rounds * sampling-rate``.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from measuring import read_options
from ranking import MEASURES, write

from mrff.config import RunConfig
from mrff.config.methods import method_named, overrides_of
from mrff.experiments.central import Measures
from mrff.experiments.central.methods import CentralResult, run_central
from mrff.ops.simulation import read_settings

RIVALS = (
    "popularity", "item-knn", "rules", "ease", "slit", "ials", "bpr",
    "sasrec-pooled", "hstu-pooled",
)  # fmt: skip


def main() -> None:
    """Prints every validation and a table, and writes every row where asked to."""
    options = read_options(
        __doc__,
        *("set",),
        config={"type": Path, "required": True},
        methods={"nargs": "+", "choices": RIVALS, "default": RIVALS},
        seeds={"type": int, "nargs": "+", "default": [0]},
        csv={"type": Path, "default": None},
    )
    rows = []
    for method in options.methods:
        for seed in options.seeds if method_named(method).draws else options.seeds[:1]:
            base = read_settings(options.config, [*options.set, f"training.seed={seed}"])
            config = RunConfig.from_flat(overrides_of(method, base))
            result = run_central(method, config, partial(told, method))
            rows.append(row_of(method, config, result))
            print(f"{method}: best {result.best_round} {result.chosen}, tried {rows[-1]['rounds']}")
            if options.csv:
                write(pd.DataFrame(rows[-1:]), options.csv)
    table = pd.DataFrame(rows)[["method", "seed", *MEASURES, "hr10_apart", "best_round", "seconds"]]
    print(table.to_string(index=False))
    print(f"load average {os.getloadavg()[0]:.1f}")


def told(method: str, step: int, measures: Measures) -> None:
    """Prints a validation."""
    print(
        f"{method} {step} hr10 {measures['hr10']:.4f} ndcg10 {measures['ndcg10']:.4f}", flush=True
    )


def row_of(method: str, config: RunConfig, result: CentralResult) -> dict[str, Any]:
    """The test of a method, as `ranking.rows_of` writes that of a run."""
    test = result.measured
    passes = round(config.server.num_server_rounds * config.training.sampling_rate)
    return {
        "dataset": config.data.dataset,
        "split": f"last-{config.data.holdout}",
        "method": method,
        "kind": method_named(method).kind,
        "seed": config.training.seed,
        **{name: round(test[measure], 6) for name, measure in MEASURES.items()},
        "hr10_apart": round(test["hr10_apart"], 6),
        "apart_share": round(test["apart_share"], 6),
        "rounds": passes if method.endswith("-pooled") else result.tried,
        "best_round": result.best_round,
        "seconds": round(result.seconds, 3),
        "bytes_up": None,
    }


if __name__ == "__main__":
    main()

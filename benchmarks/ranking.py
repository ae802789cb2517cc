"""How well is the next item found, by the network, by linear models, and by both?

    python benchmarks/ranking.py --config conf/ml-1m-next.toml --seeds 0 1 2 --csv docs/ranking.csv

Every seed is a run of its own through ``flwr run``'s simulation, tested at its best validation
round, among all items that a user had not met. One row per seed and method: `mrff` is the mix that
validation chose, the others are its parts; a rival is one row by its own name. A row that is there
already is replaced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from measuring import read_options

from mrff.config import RunConfig
from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import read_settings, simulate

KINDS = {"network": "federated", "linear": "federated", "mixed": "federated"}
NAMES = {"mixed": "mrff", "network": "mrff-network", "linear": "mrff-linear"}
MEASURES = {"hr10": "hr10", "ndcg10": "ndcg10", "mrr": "mrr10"}
KEY = ["dataset", "split", "method", "kind", "seed"]


def main() -> None:
    """Prints a table with the mean over seeds, and writes every row where asked to."""
    options = read_options(
        __doc__,
        *("set",),
        config={"type": Path, "required": True},
        seeds={"type": int, "nargs": "+", "default": [0, 1, 2]},
        nodes=2,
        csv={"type": Path, "default": None},
    )
    rows = pd.DataFrame()
    for seed in options.seeds:
        values = read_settings(options.config, [*options.set, f"training.seed={seed}"])
        with termination_interrupts():  # or the run would outlive this script
            summary = simulate(values, Federation(options.nodes))
        rows = pd.concat([rows, pd.DataFrame(rows_of(summary, RunConfig.from_flat(values)))])
        if options.csv:
            write(rows, options.csv)
    numbers = rows.groupby("method", sort=False)[[*MEASURES, "seconds"]]
    print(numbers.agg(["mean", "std"]).round(4).to_string())
    print(f"candidates {summary['test']['candidates']:.1f} on average")
    print(f"load average {os.getloadavg()[0]:.1f}")


def rows_of(summary: dict[str, Any], config: RunConfig) -> list[dict[str, Any]]:
    """One per method that the run's test ranked by."""
    test = summary["test"]
    parts, own = summary["test_parts"], "mixed"
    if not parts:  # a rival, or MRFF without linear models
        own = config.training.algorithm or "network"
        parts = {own: test}
    return [
        {
            "dataset": summary["dataset"],
            "split": f"last-{config.data.holdout}",
            "method": NAMES.get(method, method),
            "kind": KINDS.get(method, "federated" if method == own else "floor"),
            "seed": config.training.seed,
            **{name: round(part[measure], 6) for name, measure in MEASURES.items()},
            "hr10_apart": round(test["hr10_apart"], 6) if method == own else None,
            "apart_share": round(test["apart_share"], 6),
            "rounds": summary["rounds"],
            "best_round": summary["best_round"],
            "seconds": summary["seconds"],
            "bytes_up": summary["bytes_up"],
        }
        for method, part in parts.items()
    ]


def write(rows: pd.DataFrame, path: Path) -> None:
    """Puts the rows into the file, in the place of those of the same name."""
    whole = {"bytes_up": "Int64"}  # pooled methods send nothing: a gap among whole numbers
    rows = rows.astype(whole)
    if path.exists():
        rows = pd.concat([pd.read_csv(path, dtype=whole), rows]).drop_duplicates(KEY, keep="last")
    rows.sort_values(KEY, kind="stable").to_csv(path, index=False)


if __name__ == "__main__":
    main()

"""Are defaults that follow from a dataset above its best floor, rates counted of all users?

    python benchmarks/fitted_defaults.py --home /tmp/fits --seeds 0 1 2 --datasets ml-100k ciaodvd

Each dataset, and each made-up sparse one (``--worlds``), is trained through Flower with nothing
said but its name and the seed. Prepared datasets are looked for in ``--data``. Measured is the test
at the best validated round; runs that are in --home already are read.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
from measuring import read_options

from mrff.data.dataset import load_dataset
from mrff.data.floors import floors
from mrff.data.prepare import prepare
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import read_settings, run_on

WORLDS: dict[str, dict[str, int]] = {
    "median-2": {"users": 4000, "items": 800, "events_per_user": 2},
    "median-5": {"users": 3000, "items": 1500, "events_per_user": 5},
    "median-20": {"users": 1500, "items": 1000, "events_per_user": 20},
    "positive-1": {"users": 10_000, "items": 500, "events_per_user": 20, "positive_percent": 1},
    "positive-99": {"users": 10_000, "items": 500, "events_per_user": 20, "positive_percent": 99},
    "many-items": {"users": 800, "items": 6000, "events_per_user": 20},
}
"""Options of the synthetic recipe, all of them sparse.

A rare label needs users: of 2,000 held-out rows 20 would have it, too few for an AUC.
"""


def main() -> None:
    """Prints a row per dataset."""
    options = read_options(
        __doc__, "set", nodes=2,
        home={"type": Path, "required": True},
        data={"type": Path, "default": Path("~/.mrff/data")},
        datasets={"nargs": "*", "default": [], "help": "names of prepared folders in --data"},
        worlds={"nargs": "*", "default": [], "choices": WORLDS},
        seeds={"type": int, "nargs": "+", "default": [0]},
    )  # fmt: skip
    home = options.home.expanduser().absolute()
    rows = []
    with (
        termination_interrupts(),  # or a run would outlive this script
        FlowerEngine(home / "flower", Federation(options.nodes)) as engine,
    ):
        for name in [*options.datasets, *options.worlds]:
            folder = options.data.expanduser().absolute() / name
            if name in WORLDS:
                folder = home / "data" / name
                prepare("synthetic", out=folder, options={"sparse": 1, **WORLDS[name]})
            runs = [trained(engine, options, home, (name, folder, seed)) for seed in options.seeds]
            rows.append({"dataset": name, **best_floor(folder), **compared(runs)})
            print(pd.DataFrame(rows).to_string(index=False), flush=True)


def trained(
    engine: FlowerEngine, options: Any, home: Path, of: tuple[str, Path, int]
) -> dict[str, Any]:
    """The summary of a run with what fits a dataset; ``of``: its name, its folder, the seed."""
    name, folder, seed = of
    run = f"{name}-{seed}"
    told = home / "runs" / run / "summary.json"
    if not told.exists():
        values = read_settings(None, options.set) | {
            "data.dataset": name, "data.data-dir": str(folder), "data.home": str(home),
            "training.seed": seed, "run.name": run, "run.tensorboard": False,
        }  # fmt: skip
        run_on(engine, values, app=None)
    summary: dict[str, Any] = json.loads(told.read_text())
    return summary


def best_floor(folder: Path) -> dict[str, Any]:
    """Name and AUC of the best floor of the last rows."""
    found = floors(load_dataset(folder), holdout=1, part="test")
    named = {
        "user": found.user, "user x item": found.user_item, "user x features": found.user_features,
    }  # fmt: skip
    name, floor = max(
        ((name, floor) for name, floor in named.items() if floor is not None),
        key=lambda one: one[1].auc,
    )
    return {"floor": name, "floor_auc": round(floor.auc, 4)}


def compared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the deviation of the AUC."""
    aucs = [run["test"]["auc"] for run in runs]
    losses = [run["test"]["log_loss"] for run in runs]
    return {
        "auc": round(statistics.mean(aucs), 4),
        "deviation": round(statistics.stdev(aucs), 4) if len(aucs) > 1 else None,
        "log_loss": round(statistics.mean(losses), 4),
        "best_rounds": [run["best_round"] for run in runs],
    }


if __name__ == "__main__":
    main()

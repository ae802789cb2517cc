"""What do rounded matrix products cost: AUC, LogLoss or NDCG by `training.precision`?

    python benchmarks/precision.py --config conf/kuairand.toml --seeds 0 1 2 3 4 --set holdout=5

Every precision and seed is a run of its own through Flower, with the name CONFIG-PRECISION-SEED
under --home; runs that are there already are read. Differences from the first precision are paired
by seed. bf16 rounds on a CPU as it does on a GPU, tf32 on a GPU alone.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from compression import paired, result
from measuring import read_options, show

PRECISIONS = ("fp32", "tf32", "bf16")


def main() -> None:
    """Prints a table of means over seeds."""
    options = read_options(
        __doc__, "config", "set", "json", nodes=1,
        home={"type": Path, "default": Path("~/.mrff")},
        seeds={"type": int, "nargs": "+", "default": [0, 1, 2, 3, 4]},
        precisions={"nargs": "+", "default": ["fp32", "bf16"], "choices": PRECISIONS},
    )  # fmt: skip
    if options.config is None:
        raise SystemExit("--config is needed: settings, as in conf/")
    runs = {
        precision: [
            result(options, f"{precision}-{seed}", [f"seed={seed}", f"precision={precision}"])
            for seed in options.seeds
        ]
        for precision in options.precisions
    }
    first = runs[options.precisions[0]]
    rows = []
    for precision, found in runs.items():
        row: dict[str, Any] = {"precision": precision, "seeds": len(found)}
        for name in [name for name in first[0] if name not in ("down", "up", "bytes")]:
            values = [run[name] for run in found]
            row[name] = statistics.mean(values)
            if found is not first:
                row[f"{name}_change"] = paired(values, [run[name] for run in first])
        rows.append(row)
    show(rows, options.json)


if __name__ == "__main__":
    main()

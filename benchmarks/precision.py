"""What do rounded matrix products cost: AUC, LogLoss or NDCG by `training.precision`?

    python benchmarks/precision.py --config conf/kuairand.toml --seeds 0 1 2 3 4 --set holdout=5

Every precision and seed is a run of its own through Flower, with the name CONFIG-PRECISION-SEED
under --home; runs that are there already are read. Differences from the first precision are paired
by seed. bf16 rounds on a CPU as it does on a GPU, tf32 on a GPU alone.
"""

from __future__ import annotations

from measuring import read_options, show
from paired_runs import PAIRED, compared

PRECISIONS = ("fp32", "tf32", "bf16")


def main() -> None:
    """Prints a table of means over seeds."""
    precisions = {"nargs": "+", "default": ["fp32", "bf16"], "choices": PRECISIONS}
    options = read_options(
        __doc__, "config", "set", "json", nodes=1, precisions=precisions, **PAIRED
    )
    show(compared(options, "precision", options.precisions), options.json)


if __name__ == "__main__":
    main()

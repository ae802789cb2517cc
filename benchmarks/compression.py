"""What do compressed messages save, and what do they cost: bytes of a round, AUC, LogLoss, NDCG?

    python benchmarks/compression.py --config conf/ml-100k.toml --seeds 0 1 2

Every width and seed is a run of its own through Flower, with the name CONFIG-WIDTH-SEED under
--home; runs that are there already are read. Differences are paired by seed.
"""

from __future__ import annotations

from measuring import read_options, show
from paired_runs import PAIRED, compared

WIDTHS = ("none", "8-bit", "4-bit")


def main() -> None:
    """Prints a table of means over seeds."""
    widths = {"nargs": "+", "default": list(WIDTHS), "choices": WIDTHS}
    three = {"seeds": {**PAIRED["seeds"], "default": [0, 1, 2]}}
    options = read_options(
        __doc__, "config", "set", "json", nodes=2, widths=widths, **{**PAIRED, **three}
    )
    show(compared(options, "compression", options.widths), options.json)


if __name__ == "__main__":
    main()

"""What does it cost in quality not to send a row per item: AUC or NDCG against bytes of a round?

    python benchmarks/item_ways.py --config conf/ml-1m.toml --seeds 0 --plot ways.png \\
        --ways full features hashed:256 hashed:1024

A way is a value of ``network.item-ids``; `hashed:ROWS` says `network.hash-rows` too. Every way
and seed is a run of its own through Flower under --home; runs that are there are read.
Changes are paired by seed, to the first way. Parameters are those that travel, experts included.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from measuring import read_options, show
from paired_runs import MEASURES, paired, result

from mrff.ops.trained_run import find_run, load_best


def main() -> None:
    """Prints a table of means over seeds, and draws it where asked to."""
    options = read_options(
        __doc__, "config", "set", "json", nodes=2,
        home={"type": Path, "default": Path("~/.mrff")},
        seeds={"type": int, "nargs": "+", "default": [0]},
        ways={"nargs": "+", "default": ["full", "hashed:1024", "features"]},
        plot={"type": Path, "metavar": "PNG-or-SVG"},
    )  # fmt: skip
    if options.config is None:
        raise SystemExit("--config is needed: settings, as in conf/")
    runs: dict[str, list[dict[str, float]]] = {
        way: [result(options, f"{way.replace(':', '-')}-{seed}", [f"seed={seed}", *changes(way)])
              for seed in options.seeds]
        for way in options.ways
    }  # fmt: skip
    first = runs[options.ways[0]]
    rows = []
    for way, found in runs.items():
        row: dict[str, Any] = {"items": way, "seeds": len(found)}
        row["KB a round"] = round(statistics.mean(run["bytes"] for run in found) / 1e3)
        row["parameters"] = parameters_of(options, way)
        for name in [n for names in MEASURES.values() for n in names if n in first[0]]:
            values = [run[name] for run in found]
            row[name] = round(statistics.mean(values), 4)
            if found is not first:
                row[f"{name}_change"] = paired(values, [run[name] for run in first])
        rows.append(row)
    show(rows, options.json)
    if options.plot:
        save_plot(rows, options.plot)


def changes(way: str) -> list[str]:
    """The settings of a way."""
    name, _, number = way.partition(":")
    return [f"item-ids={name}", *([f"hash-rows={number}"] if number else [])]


def parameters_of(options: Any, way: str) -> int:
    """How many numbers the shared model has."""
    name = f"{options.config.stem}-{way.replace(':', '-')}-{options.seeds[0]}"
    best = load_best(find_run(str(options.home.expanduser() / "runs" / name)))
    return sum(values.size for values in best.arrays.values())


def save_plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The first measure against bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    measure = next(n for names in MEASURES.values() for n in names if n in rows[0])
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    rows = sorted(rows, key=lambda row: row["KB a round"])
    axes.plot([r["KB a round"] for r in rows], [r[measure] for r in rows], "o", color="tab:blue")
    for row in rows:
        at = (row["KB a round"], row[measure])
        axes.annotate(row["items"], at, xytext=(6, 4), textcoords="offset points")
    axes.set_xlabel("KB of a round, both ways, all nodes")
    axes.set_ylabel(measure)
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

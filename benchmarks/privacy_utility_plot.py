"""Shows the rows of privacy_utility.py: a table, and curves with 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

MEASURES = {"auc": "test AUC", "log_loss": "test LogLoss"}
RUINED = 0.05  # a curve whose best AUC is so far below the best one's would flatten the others

Points = list[tuple[float, list[dict[str, Any]]]]  # (epsilon, its rows)


def print_results(rows: Sequence[dict[str, Any]]) -> None:
    """A Markdown table: mean and half width of the 95 % interval over seeds."""
    print("| dataset | mode / unit | epsilon | seeds | AUC | LogLoss | signal/noise |")
    print("|---|---|---|---|---|---|---|")
    for dataset, variant, points in _curves(rows):
        for epsilon, cell in points:
            auc, log_loss = (_interval([row[m] for row in cell]) for m in MEASURES)
            ratios = [r["signal_to_noise"] for r in cell if r["signal_to_noise"] is not None]
            ratio = f"{np.mean(ratios):.2f}" if ratios else "-"
            print(
                f"| {dataset} | {variant} | {epsilon:g} | {len(cell)} | {_shown(*auc)} "
                f"| {_shown(*log_loss)} | {ratio} |"
            )


def save_plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Curves against epsilon, AUC beside LogLoss; epsilon inf is a dashed line.

    Curves of ruined models are named with their best AUC, and not drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    curves = list(_curves(rows))
    reached = {variant: _best_auc(points) for _, variant, points in curves}
    ruined = {v: auc for v, auc in reached.items() if auc < max(reached.values()) - RUINED}
    for (dataset, variant, points), colour in zip(curves, colours, strict=False):
        if variant in ruined:
            continue
        for axis, measure in zip(axes, MEASURES, strict=True):
            finite = [(e, cell) for e, cell in points if math.isfinite(e)]
            intervals = [_interval([row[measure] for row in cell]) for _, cell in finite]
            axis.errorbar(
                [e for e, _ in finite], [mean for mean, _ in intervals],
                yerr=[0.0 if math.isnan(half) else half for _, half in intervals],
                marker="o", capsize=3, color=colour, label=f"{dataset} {variant}",
            )  # fmt: skip
            for epsilon, cell in points:
                if math.isinf(epsilon):
                    mean = float(np.mean([row[measure] for row in cell]))
                    axis.axhline(mean, linestyle="--", linewidth=0.8, color=colour)
    for axis, name in zip(axes, MEASURES.values(), strict=True):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("epsilon (dashed: without privacy)")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    if ruined:
        left_out = ", ".join(f"{name} (best AUC {auc:.3f})" for name, auc in ruined.items())
        figure.suptitle(f"not drawn: {left_out}", fontsize=9)
    figure.savefig(path, dpi=130)
    print(f"drawn in {path}")


def _best_auc(points: Points) -> float:
    """The highest mean AUC with privacy; -inf without any."""
    means = [np.mean([row["auc"] for row in cell]) for e, cell in points if math.isfinite(e)]
    return float(max(means, default=-math.inf))


def _curves(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, Points]]:
    names = sorted({(row["dataset"], row["variant"]) for row in rows})
    for dataset, variant in names:
        own = [row for row in rows if (row["dataset"], row["variant"]) == (dataset, variant)]
        epsilons = sorted({float(row["epsilon"]) for row in own})
        points = [(e, [row for row in own if float(row["epsilon"]) == e]) for e in epsilons]
        yield dataset, variant, points


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval; nan from one value."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return mean, half


def _shown(mean: float, half: float) -> str:
    return f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half:.4f}"

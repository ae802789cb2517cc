"""Shows the rows of privacy_utility.py: a table, and curves with 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

MEASURES = {"auc": "test AUC", "log_loss": "test LogLoss"}
RUINED = 0.05  # a curve whose best AUC is so far below the best one's would flatten the others


def summary_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line per curve and epsilon: means over seeds, half widths of their intervals as well."""
    frame = pd.DataFrame(rows).astype({"epsilon": float, "signal_to_noise": float})
    cells = frame.groupby(["dataset", "variant", "epsilon"])
    found = cells[[*MEASURES, "signal_to_noise"]].mean()
    found["seeds"] = cells.size()
    for measure in MEASURES:  # NaN from one seed
        found[f"{measure}_half"] = cells[measure].sem() * t.ppf(0.975, found["seeds"] - 1)
    return found.reset_index()


def print_results(found: pd.DataFrame) -> None:
    """A Markdown table: mean and half width of the 95 % interval over seeds."""
    print("| dataset | mode / unit | epsilon | seeds | AUC | LogLoss | signal/noise |")
    print("|---|---|---|---|---|---|---|")
    for cell in found.itertuples():
        auc, log_loss = _shown(cell.auc, cell.auc_half), _shown(cell.log_loss, cell.log_loss_half)
        ratio = "-" if math.isnan(cell.signal_to_noise) else f"{cell.signal_to_noise:.2f}"
        print(
            f"| {cell.dataset} | {cell.variant} | {cell.epsilon:g} | {cell.seeds} | {auc} "
            f"| {log_loss} | {ratio} |"
        )


def save_plot(found: pd.DataFrame, path: Path) -> None:
    """Curves against epsilon, AUC beside LogLoss; epsilon inf is a dashed line.

    Curves of ruined models are named with their best AUC, and not drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    private = found[np.isfinite(found["epsilon"])]
    reached = private.groupby("variant")["auc"].max()
    ruined = reached[reached < reached.max() - RUINED]
    curves = found.groupby(["dataset", "variant"])
    for ((dataset, variant), curve), colour in zip(curves, colours, strict=False):
        if variant in ruined:
            continue
        is_private = np.isfinite(curve["epsilon"])
        for axis, measure in zip(axes, MEASURES, strict=True):
            points = curve[is_private]
            axis.errorbar(
                points["epsilon"], points[measure], yerr=points[f"{measure}_half"].fillna(0.0),
                marker="o", capsize=3, color=colour, label=f"{dataset} {variant}",
            )  # fmt: skip
            for mean in curve[~is_private][measure]:
                axis.axhline(mean, linestyle="--", linewidth=0.8, color=colour)
    for axis, name in zip(axes, MEASURES.values(), strict=True):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("epsilon (dashed: without privacy)")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    if len(ruined):
        left_out = ", ".join(f"{name} (best AUC {auc:.3f})" for name, auc in ruined.items())
        figure.suptitle(f"not drawn: {left_out}", fontsize=9)
    figure.savefig(path, dpi=130)
    print(f"drawn in {path}")


def _shown(mean: float, half: float) -> str:
    return f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half:.4f}"

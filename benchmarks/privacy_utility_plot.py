"""Shows the rows of privacy_utility.py: a table, and curves with 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

MEASURES = {"auc": "AUC", "log_loss": "LogLoss", "ndcg10": "NDCG@10", "hr10": "HR@10"}
RUINED = 0.05  # a curve whose best AUC is so far below the best one's would flatten the others


def summary_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line per curve and epsilon: means over seeds, half widths of their intervals as well."""
    frame = pd.DataFrame(rows).astype({"epsilon": float, "signal_to_noise": float})
    measures = measures_in(frame)
    cells = frame.groupby(["dataset", "variant", "epsilon"])
    found = cells[[*measures, "signal_to_noise"]].mean()
    found["seeds"] = cells.size()
    for measure in measures:  # NaN from one seed
        found[f"{measure}_half"] = cells[measure].sem() * t.ppf(0.975, found["seeds"] - 1)
    return found.reset_index()


def measures_in(frame: pd.DataFrame) -> list[str]:
    """Those of `MEASURES` that every row has."""
    return [name for name in MEASURES if name in frame and frame[name].notna().all()]


def print_results(found: pd.DataFrame) -> None:
    """A Markdown table: mean and half width of the 95 % interval over seeds."""
    measures = measures_in(found)
    headings = ["dataset", "mode / unit", "epsilon", "seeds", *map(MEASURES.get, measures)]
    print("| " + " | ".join(map(str, [*headings, "signal/noise"])) + " |")
    print("|---" * (len(headings) + 1) + "|")
    cell: Any
    for cell in found.itertuples():
        told = [_shown(getattr(cell, m), getattr(cell, f"{m}_half")) for m in measures]
        ratio = "-" if math.isnan(cell.signal_to_noise) else f"{cell.signal_to_noise:.2f}"
        told = [cell.dataset, cell.variant, f"{cell.epsilon:g}", str(cell.seeds), *told, ratio]
        print("| " + " | ".join(told) + " |")


def save_plot(found: pd.DataFrame, path: Path) -> None:
    """Curves against epsilon, two measures side by side; epsilon inf is a dashed line.

    Curves of ruined models are named with their best AUC, and not drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    measures = measures_in(found)[:2]
    private = found[np.isfinite(found["epsilon"])]
    reached = private.groupby("variant")[measures[0]].max()
    ruined = reached[reached < reached.max() - RUINED]
    curves = found.groupby(["dataset", "variant"])
    for ((dataset, variant), curve), colour in zip(curves, colours, strict=False):
        if variant in ruined:
            continue
        is_private = np.isfinite(curve["epsilon"])
        for axis, measure in zip(axes, measures, strict=True):
            points = curve[is_private]
            axis.errorbar(
                points["epsilon"], points[measure], yerr=points[f"{measure}_half"].fillna(0.0),
                marker="o", capsize=3, color=colour, label=f"{dataset} {variant}",
            )  # fmt: skip
            for mean in curve[~is_private][measure]:
                axis.axhline(mean, linestyle="--", linewidth=0.8, color=colour)
    for axis, measure in zip(axes, measures, strict=True):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("epsilon (dashed: without privacy)")
        axis.set_ylabel(f"test {MEASURES[measure]}")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    if len(ruined):
        left_out = ", ".join(
            f"{name} (best {MEASURES[measures[0]]} {value:.3f})" for name, value in ruined.items()
        )
        figure.suptitle(f"not drawn: {left_out}", fontsize=9)
    figure.savefig(path, dpi=130)
    print(f"drawn in {path}")


def _shown(mean: float, half: float) -> str:
    return f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half:.4f}"

"""The page of a comparison: forest plots of the differences, and tables of all methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mrff.experiments.reports.comparison_files import read_comparison
from mrff.experiments.reports.figures import PALETTE, new_figure
from mrff.experiments.reports.page import Page
from server_app.run.progress import duration

METRICS = {"auc": ("AUC", "higher is better"), "log_loss": ("LogLoss", "lower is better")}


@dataclass(frozen=True)
class _Comparison:
    """All that the page is made of."""

    name: str
    results: pd.DataFrame
    found: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def significance(self) -> float:
        return float(self.about.get("significance", 0.05))

    @property
    def share(self) -> str:
        return f"{float(self.about.get('confidence', 0.95)):.0%}"

    @property
    def reference(self) -> str:
        return str(self.about.get("reference") or next(iter(self.found["reference"]), "reference"))


def comparison_page(folder: Path) -> Page:
    """Reads a comparison's results and draws their page.

    Raises:
        RunError: a file is missing, damaged, or empty.
    """
    results, found, about = read_comparison(folder)
    comparison = _Comparison(folder.name, results, found, about)
    datasets = list(dict.fromkeys(results["dataset"]))
    page = Page(
        f"Comparison {comparison.name}",
        f"{results['method'].nunique()} methods on {', '.join(datasets)}; test at the best "
        "validation round",
    )
    _tiles(page, comparison)
    _forests(page, comparison, datasets)
    for dataset in datasets:
        _tables(page, comparison, dataset)
    _unfinished(page, comparison)
    if about:
        page.section("Configuration")
        rows = [(key, _text(value)) for key, value in about.items() if key != "cells"]
        page.table(("setting", "value"), rows, numbers=False)
    return page


def _tiles(page: Page, comparison: _Comparison) -> None:
    results = comparison.results
    finished = results if "status" not in results else results[results["status"] == "finished"]
    better, worse = (_significant(comparison, sign) for sign in (1, -1))
    page.tiles(
        [
            ("runs", f"{len(finished)}", f"finished, of {len(results)}"),
            ("seeds", str(results["seed"].nunique()), "per method that draws anything"),
            ("behind in AUC", str(worse), f"method and dataset pairs, against {_ref(comparison)}"),
            ("ahead in AUC", str(better), f"p < {comparison.significance:g} after Holm"),
            ("time in phases", duration(float(finished["seconds"].sum())), "all runs together"),
        ]
    )


def _forests(page: Page, comparison: _Comparison, datasets: list[str]) -> None:
    page.section("Differences")
    page.text(
        f"Each point is a method minus {_ref(comparison)}, with its {comparison.share} interval "
        "(paired bootstrap over users and seeds). Blue: significant after Holm's correction over "
        f"all comparisons (p < {comparison.significance:g}); hollow: not."
    )
    for metric, (name, direction) in METRICS.items():
        for dataset in datasets:
            lines = comparison.found[
                (comparison.found["dataset"] == dataset) & (comparison.found["metric"] == metric)
            ].dropna(subset=["difference"])
            if len(lines):
                page.chart(
                    forest_figure(lines, comparison.significance, f"{name} difference"),
                    title=f"{dataset}: {name} against {_ref(comparison)}",
                    caption=f"{direction}; no bar: too little data for an interval",
                )


def forest_figure(lines: pd.DataFrame, significance: float, axis: str) -> go.Figure:
    """A row per method, largest difference on top; intervals may be missing."""
    ordered = lines.sort_values("difference")
    figure = new_figure(x=axis, height=110 + 26 * len(ordered), legend=False)
    significant = (ordered["p_holm"] < significance).to_numpy()
    for certain, colour, symbol in (
        (True, PALETTE[0], "square"),
        (False, "#8a8f98", "square-open"),
    ):
        rows = ordered[significant == certain]
        if rows.empty:
            continue
        middle = rows["difference"].tolist()
        figure.add_trace(
            go.Scatter(
                x=middle, y=rows["method"].tolist(), mode="markers",
                name="significant" if certain else "not significant",
                marker={"color": colour, "symbol": symbol, "size": 9},
                error_x={
                    "type": "data", "symmetric": False, "color": colour, "thickness": 1.5,
                    "array": _widths(rows["high"] - rows["difference"]),
                    "arrayminus": _widths(rows["difference"] - rows["low"]),
                },
                customdata=[_interval(row) for _, row in rows.iterrows()],
                hovertemplate="%{y}: %{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="dot")
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(
        categoryorder="array", categoryarray=ordered["method"].tolist(),
        range=[-0.6, len(ordered) - 0.4],
    )  # fmt: skip
    return figure


def _tables(page: Page, comparison: _Comparison, dataset: str) -> None:
    page.section(dataset)
    here = comparison.results[comparison.results["dataset"] == dataset]
    against = comparison.found[comparison.found["dataset"] == dataset]
    means = here.groupby("method")["auc"].mean().sort_values(ascending=False, na_position="last")
    rows: list[list[str]] = []
    bold: list[int] = []
    for method in means.index:
        runs = here[here["method"] == method]
        if method == comparison.reference:
            bold.append(len(rows))
        row = [str(method), str(int(runs["auc"].notna().sum()))]
        row += [_mean(runs[metric]) for metric in METRICS]
        for metric in METRICS:
            line = against[(against["method"] == method) & (against["metric"] == metric)]
            row += [_interval(line.iloc[0]), _p(line.iloc[0]["p_holm"])] if len(line) else ["", ""]
        row += [_mean(runs["best_round"], 0), _mean(runs["seconds"], 0)]
        rows.append(row)
    headings = ["method", "runs"]
    headings += [name for name, _ in METRICS.values()]
    for name, _ in METRICS.values():
        headings += [f"{name} difference [{comparison.share}]", "p (Holm)"]
    page.table([*headings, "best round", "seconds"], rows, bold=bold)
    if "note" in against:
        for method, note in against[["method", "note"]].dropna().drop_duplicates().to_numpy():
            page.text(f"{method}: {note}")


def _unfinished(page: Page, comparison: _Comparison) -> None:
    results = comparison.results
    if "status" not in results:
        return
    undone = results[results["status"] != "finished"]
    if undone.empty:
        return
    page.section("Not finished")
    rows = [
        [_text(row.get(key)) for key in ("dataset", "method", "seed", "status", "error")]
        for row in undone.to_dict("records")
    ]
    page.table(("dataset", "method", "seed", "status", "error"), rows, numbers=False)


def _significant(comparison: _Comparison, sign: int) -> int:
    found = comparison.found[comparison.found["metric"] == "auc"]
    kept = found[(found["p_holm"] < comparison.significance) & (sign * found["difference"] > 0)]
    return len(kept)


def _ref(comparison: _Comparison) -> str:
    return comparison.reference


def _widths(values: pd.Series) -> list[float | None]:
    return [None if math.isnan(value) else max(float(value), 0.0) for value in values]


def _interval(row: Any) -> str:
    if math.isnan(row["difference"]):
        return "–"
    text = f"{row['difference']:+.4f}"
    return (
        text if math.isnan(row["low"]) else f"{text} [{row['low']:+.4f},\u00a0{row['high']:+.4f}]"
    )


def _p(value: float) -> str:
    if math.isnan(value):
        return "no test"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _mean(values: pd.Series, digits: int = 4) -> str:
    known = values.dropna().astype(float)
    if not len(known):
        return "–"
    text = f"{known.mean():.{digits}f}"
    # a number and its spread stay on one line
    return f"{text}\u00a0±\u00a0{known.std():.{digits}f}" if digits and len(known) > 1 else text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None or value != value else str(value)  # NaN is not itself

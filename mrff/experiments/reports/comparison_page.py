"""The page of a comparison: forest plots of the differences, and tables of all methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mrff.experiments.comparison.files import read_comparison
from mrff.experiments.comparison.measures import TESTED
from mrff.experiments.comparison.tables import interval_text, lines_of, measures_in, notes_of
from mrff.experiments.reports.figures import PALETTE, as_written, new_figure
from mrff.experiments.reports.page import render

COLUMNS_OF_UNFINISHED = ["dataset", "method", "seed", "status", "error"]


@dataclass(frozen=True)
class _Files:
    """All that the page is made of."""

    results: pd.DataFrame
    found: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def significance(self) -> float:
        return float(self.about.get("significance", 0.05))

    @property
    def reference(self) -> str:
        return str(self.about.get("reference") or next(iter(self.found["reference"]), "reference"))

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(self.results["dataset"]))


def comparison_page(folder: Path) -> str:
    """Reads a comparison's results and writes their page.

    Raises:
        RunError: a file is missing, damaged, or empty.
    """
    files = _Files(*read_comparison(folder))
    results = files.results
    is_finished = results["status"] == "finished"
    counted = "auc" if "auc" in measures_in(results) else "ndcg10"
    unfinished = results.loc[~is_finished, COLUMNS_OF_UNFINISHED]
    return render(
        "comparison.html.j2",
        name=folder.name,
        datasets=files.datasets,
        num_methods=results["method"].nunique(),
        num_seeds=results["seed"].nunique(),
        runs=len(results),
        finished=int(is_finished.sum()),
        seconds=float(results.loc[is_finished, "seconds"].sum()),
        counted=TESTED[counted].label,
        behind=_significant(files, counted, -1),
        ahead=_significant(files, counted, 1),
        reference=files.reference,
        significance=files.significance,
        share=f"{float(files.about.get('confidence', 0.95)):.0%}",
        forests=_forests(files),
        tables=[_table(files, dataset) for dataset in files.datasets],
        unfinished=[[_text(value) for value in row] for row in unfinished.to_numpy()],
        settings=[
            (key, _text(value))
            for key, value in files.about.items()
            if key not in ("cells", "marks")
        ],
    )


def _significant(files: _Files, metric: str, sign: int) -> int:
    found = files.found[files.found["metric"] == metric]
    return int(((found["p_holm"] < files.significance) & (sign * found["difference"] > 0)).sum())


def _forests(files: _Files) -> list[dict[str, Any]]:
    """A chart for every metric and dataset with a known difference."""
    forests = []
    for metric, tested in TESTED.items():
        known = files.found[files.found["metric"] == metric].dropna(subset=["difference"])
        for dataset in files.datasets:
            lines = known[known["dataset"] == dataset]
            if len(lines):
                figure = forest_figure(lines, files.significance, f"{tested.label} difference")
                told = {"metric": tested.label, "direction": tested.direction}
                about = {"dataset": dataset, **told}
                forests.append({**about, "figure": figure})
    return forests


def forest_figure(lines: pd.DataFrame, significance: float, axis: str) -> go.Figure:
    """A row per method, largest difference on top; intervals may be missing."""
    ordered = lines.sort_values("difference")
    figure = new_figure(x=axis, height=110 + 26 * len(ordered), legend=False)
    significant = (ordered["p_holm"] < significance).to_numpy()
    for name, rows, colour, symbol in (
        ("significant", ordered[significant], PALETTE[0], "square"),
        ("not significant", ordered[~significant], "#8a8f98", "square-open"),
    ):
        if rows.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=rows["difference"].tolist(), y=_methods(rows), mode="markers", name=name,
                marker={"color": colour, "symbol": symbol, "size": 9},
                error_x={
                    "type": "data", "symmetric": False, "color": colour, "thickness": 1.5,
                    "array": _widths(rows["high"] - rows["difference"]),
                    "arrayminus": _widths(rows["difference"] - rows["low"]),
                },
                customdata=[_together(interval_text(row)) for row in rows.itertuples()],
                hovertemplate="%{y}: %{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="dot")
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(
        categoryorder="array", categoryarray=_methods(ordered),
        range=[-0.6, len(ordered) - 0.4],
    )  # fmt: skip
    return figure


def _methods(lines: pd.DataFrame) -> list[str]:
    return [as_written(name) for name in lines["method"]]


def _table(files: _Files, dataset: str) -> dict[str, Any]:
    """A row per method, the best first, the reference in bold."""
    here, against = (frame[frame["dataset"] == dataset] for frame in (files.results, files.found))
    lines = lines_of(here, against, files.significance)
    names, share = measures_in(here), f"{float(files.about.get('confidence', 0.95)):.0%}"
    columns = {"method": "method", "runs": "runs", **names}
    for metric, name in names.items():
        columns |= {f"{metric}_difference": f"{name} difference [{share}]"}
        columns |= {f"{metric}_p": "p (Holm)"}
    columns |= {"best_round": "best round", "seconds": "seconds"}
    rows = [[_together(line[column].plain) for column in columns] for line in lines]
    bold = [number for number, row in enumerate(rows) if row[0] == files.reference]
    headings = list(columns.values())
    marks = files.about.get("marks", {}).get(dataset, [])
    about = {"dataset": dataset, "notes": [*marks, *notes_of(here, against)]}
    return {**about, "headings": headings, "rows": rows, "bold": bold}


def _widths(values: pd.Series) -> list[float | None]:
    return [None if math.isnan(value) else max(float(value), 0.0) for value in values]


def _together(text: str) -> str:
    """A cell whose number and spread stay on one line."""
    return "–" if text == "-" else text.replace(" ± ", "\u00a0±\u00a0").replace(", ", ",\u00a0")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):  # a whole number in a column with gaps
        return "" if math.isnan(value) else f"{value:g}"
    return "" if value is None else str(value)

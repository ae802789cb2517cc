"""A comparison as tables: Markdown to keep, and the same for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table
from rich.text import Text

from mrff.experiments.comparison.plan import ComparisonPlan
from mrff.experiments.comparison.results import Comparison

_HEADINGS = (
    "method", "kind", "runs", "AUC", "LogLoss", "GAUC", "best round", "seconds", "MB up",
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A field of a table; bold means a difference that is significant."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class DatasetTable:
    """One dataset's methods, best AUC first, the reference marked."""

    title: str
    headings: tuple[str, ...]
    lines: list[list[Field]]
    notes: list[str]


def tables(
    plan: ComparisonPlan, results: pd.DataFrame, found: Sequence[Comparison]
) -> list[DatasetTable]:
    """A table per dataset."""
    share = f"{plan.statistics.confidence:.0%}"
    headings = (
        *_HEADINGS,
        f"AUC minus {plan.reference} [{share}]", "p (Holm)",
        f"LogLoss minus {plan.reference} [{share}]", "p (Holm)",
    )  # fmt: skip
    return [_table(plan, dataset, headings, results, found) for dataset in plan.datasets]


def _table(
    plan: ComparisonPlan,
    dataset: str,
    headings: tuple[str, ...],
    results: pd.DataFrame,
    found: Sequence[Comparison],
) -> DatasetTable:
    here = results[results["dataset"] == dataset]
    against = {(line.method, line.metric): line for line in found if line.dataset == dataset}
    lines = []
    for method in plan.methods:
        runs = here[here["method"] == method]
        ended = runs[runs["status"] == "finished"]
        name = f"{method} (reference)" if method == plan.reference else method
        count = str(len(ended)) if len(ended) == len(runs) else f"{len(ended)} of {len(runs)}"
        fields = [Field(name), Field(str(runs["kind"].iloc[0])), Field(count)]
        means = [mean_text(ended[key], 4) for key in ("auc", "log_loss", "gauc")]
        means += [mean_text(ended[key], 0, spread=False) for key in ("best_round", "seconds")]
        means.append(mean_text(ended["bytes_up"] / 1e6, 1, spread=False))
        fields += [Field(mean or "-") for mean in means]
        for metric in ("auc", "log_loss"):
            fields += _difference(against.get((method, metric)), plan)
        lines.append((ended["auc"].mean(), fields))
    lines.sort(key=lambda line: -math.inf if math.isnan(line[0]) else line[0], reverse=True)
    notes = {f"{line.method}: {line.note}" for line in against.values() if line.note}
    tested = [line for line in against.values() if math.isfinite(line.p_value)]
    users = f", {tested[0].users:,} users" if tested else ""
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    title = f"{dataset}: {seeds}{users}"
    return DatasetTable(title, headings, [fields for _, fields in lines], sorted(notes))


def _difference(line: Comparison | None, plan: ComparisonPlan) -> list[Field]:
    """The difference with its interval, bold where it is significant, and the p-value."""
    if line is None or math.isnan(line.difference):
        return [Field(""), Field("")]
    text = f"{line.difference:+.4f}"
    if math.isnan(line.p_value):
        return [Field(text), Field("no test")]
    significant = line.p_holm < plan.statistics.significance
    return [
        Field(f"{text} [{line.low:+.4f}, {line.high:+.4f}]", bold=significant),
        Field(p_text(line.p_holm)),
    ]


def p_text(value: float) -> str:
    """A p-value as it is shown; NaN: nothing was tested."""
    if math.isnan(value):
        return "no test"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def mean_text(values: pd.Series, digits: int, *, spread: bool = True) -> str:
    """Mean over seeds, with the standard deviation between seeds where there are several."""
    known = values.dropna().astype(float)
    if not len(known):
        return ""
    text = f"{known.mean():.{digits}f}"
    return f"{text} ± {known.std():.{digits}f}" if spread and len(known) > 1 else text


def legend(plan: ComparisonPlan) -> str:
    """What the tables' numbers are, in a sentence or two."""
    statistics = plan.statistics
    drawn = (
        "users and seeds" if len(plan.seeds) > 1 else "users (one seed: nothing is said of others)"
    )
    return (
        "Test at the best validation round; mean ± standard deviation over seeds. Differences: "
        f"paired bootstrap over {drawn}, {statistics.resamples:,} resamples, percentile "
        f"intervals; bold where p < {statistics.significance:g} after Holm's correction over all "
        "comparisons. AUC: higher is better, LogLoss: lower is better."
    )


def markdown(plan: ComparisonPlan, made: Sequence[DatasetTable], crashed: Sequence[str]) -> str:
    """The whole comparison as a Markdown page."""
    parts = [f"# {plan.name}", legend(plan)]
    for table in made:
        rows = [table.headings, ["---"] * len(table.headings)]
        rows += [
            [f"**{f.text}**" if f.bold and f.text else f.text for f in line] for line in table.lines
        ]
        body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        parts += [f"## {table.title}", body]
        if table.notes:
            parts.append("\n".join(f"* {note}" for note in table.notes))
    if crashed:
        parts += ["## Not finished", "\n".join(f"* {line}" for line in crashed)]
    return "\n\n".join(parts) + "\n"


def terminal(table: DatasetTable) -> Table:
    """The table for a terminal."""
    shown = Table(title=table.title, box=None, pad_edge=False, title_justify="left")
    for place, heading in enumerate(table.headings):
        shown.add_column(heading, justify="left" if place < 2 else "right", overflow="fold")
    for line in table.lines:
        shown.add_row(*(Text(f.text, style="bold" if f.bold else "") for f in line))
    return shown

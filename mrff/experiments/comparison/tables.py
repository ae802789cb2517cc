"""A comparison as tables: Markdown to keep, and the same for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from mrff.config.derived import SAME_TIME_MARKS
from mrff.experiments.comparison.measures import TESTED
from mrff.experiments.comparison.plan import ComparisonPlan

_BEFORE = {"method": "method", "kind": "kind", "runs": "runs"}
_AFTER = {"best_round": "best round", "seconds": "seconds", "megabytes": "MB up"}
_P = "p (Holm)"
_WITH_THE_ONE_BEFORE = (_P, *list(_AFTER.values())[1:])
_WIDEST = 110  # characters of a row, which a laptop's window shows
Line = dict[str, Text]  # of a method, by column; bold means a difference that is significant


@dataclass(frozen=True)
class DatasetTable:
    """One dataset's methods, the best first, the reference marked."""

    title: str
    headings: list[str]
    lines: list[list[Text]]
    notes: list[str]


def tables(plan: ComparisonPlan, results: pd.DataFrame, found: pd.DataFrame) -> list[DatasetTable]:
    """A table per dataset, from the frames that `mrff.experiments.comparison.files` writes."""
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    made = []
    for dataset in plan.datasets:
        here, against = (frame[frame["dataset"] == dataset] for frame in (results, found))
        names = measures_in(here)
        gauc = {"gauc": "GAUC"} if "auc" in names else {}
        headings = {**_BEFORE, **names, **gauc, **_AFTER}
        for metric, name in names.items():
            share = f"{plan.statistics.confidence:.0%}"
            headings[f"{metric}_difference"] = f"{name} minus {plan.reference} [{share}]"
            headings[f"{metric}_p"] = _P
        lines = lines_of(here, against, plan.statistics.significance)
        for line in lines:
            if line["method"].plain == plan.reference:
                line["method"] = Text(f"{plan.reference} (reference)")
        users = [f", {n:,} users" for n in against["users"][against["p_value"].notna()]]
        title = f"{dataset}: {seeds}{users[0] if users else ''}"
        shown = [[line[column] for column in headings] for line in lines]
        notes = [*marks_of(plan, dataset), *notes_of(here, against)]
        made.append(DatasetTable(title, list(headings.values()), shown, notes))
    return made


def marks_of(plan: ComparisonPlan, dataset: str) -> list[str]:
    """Which methods of a dataset's table do not follow the usual protocol."""
    marks = {
        row.method: SAME_TIME_MARKS[str(row.settings.get("data.same-time", "known"))]
        for row in plan.rows
        if row.dataset == dataset
    }
    if len(set(marks.values())) == 1:
        return [f"all methods: {mark}" for mark in set(marks.values()) if mark]
    return [f"{method}: {mark}" for method, mark in marks.items() if mark]


def measures_in(results: pd.DataFrame) -> dict[str, str]:
    """The labels of the measures that any run has, by name; AUC where none has any."""
    names = {name: tested.label for name, tested in TESTED.items() if results[name].notna().any()}
    return names or {"auc": TESTED["auc"].label}


def lines_of(results: pd.DataFrame, found: pd.DataFrame, significance: float) -> list[Line]:
    """A line per method of one dataset, the best first: by NDCG@10 where AUC is not measured."""
    pairs: Iterable[Any] = found.itertuples()
    against = {(line.method, line.metric): line for line in pairs}
    names = measures_in(results)
    order = "auc" if "auc" in names else "ndcg10"
    means = results.groupby("method", sort=False)[order].mean()
    lines = []
    for method in means.sort_values(ascending=False, kind="stable").index:
        runs = results[results["method"] == method]
        ended = runs[runs["status"] == "finished"]
        count = str(len(ended)) if len(ended) == len(runs) else f"{len(ended)} of {len(runs)}"
        texts = {"method": str(method), "kind": str(runs["kind"].iloc[0]), "runs": count}
        texts |= {key: _mean(ended[key], 4) for key in (*names, "gauc")}
        texts |= {key: _mean(ended[key], 0, spread=False) for key in ("best_round", "seconds")}
        texts["megabytes"] = _mean(ended["bytes_up"] / 1e6, 1, spread=False)
        line = {column: Text(text) for column, text in texts.items()}
        for metric in names:
            told = against.get((method, metric))
            significant = told is not None and told.p_holm < significance
            line[f"{metric}_difference"] = Text(interval_text(told), "bold" if significant else "")
            line[f"{metric}_p"] = Text(_p_text(told))
        lines.append(line)
    return lines


def notes_of(results: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Finished runs in which nodes were missing, and why differences were not tested."""
    short = results[(results["status"] == "finished") & (results["error"].fillna("") != "")]
    noted = found[found["note"].fillna("") != ""]
    return [
        *(f"{run.method}, {Path(str(run.run)).name}: {run.error}" for run in short.itertuples()),
        *sorted({f"{line.method}: {line.note}" for line in noted.itertuples()}),
    ]


def interval_text(line: Any) -> str:
    """A line's difference with its interval, as far as they are known."""
    if line is None or math.isnan(line.difference):
        return ""
    text = f"{line.difference:+.4f}"
    return text if math.isnan(line.low) else f"{text} [{line.low:+.4f}, {line.high:+.4f}]"


def _p_text(line: Any) -> str:
    if line is None or math.isnan(line.difference):
        return ""
    if math.isnan(line.p_holm):
        return "no test"
    return f"{line.p_holm:.3f}" if line.p_holm >= 0.001 else f"{line.p_holm:.1e}"


def _mean(values: pd.Series, digits: int, *, spread: bool = True) -> str:
    """Mean over seeds, with the standard deviation between seeds where there are several."""
    known = values.dropna().astype(float)
    if not len(known):
        return "-"
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
        "comparisons. LogLoss: lower is better, the others: higher."
    )


def markdown(plan: ComparisonPlan, made: Sequence[DatasetTable], crashed: Sequence[str]) -> str:
    """The whole comparison as a Markdown page."""
    parts = [f"# {plan.name}", legend(plan)]
    for table in made:
        lines = [[f"**{t.plain}**" if t.style else t.plain for t in line] for line in table.lines]
        parts += [f"## {table.title}", *narrow_tables(table.headings, lines)]
        if table.notes:
            parts.append("\n".join(f"* {note}" for note in table.notes))
    if crashed:
        parts += ["## Not finished", "\n".join(f"* {line}" for line in crashed)]
    return "\n\n".join(parts) + "\n"


def narrow_tables(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Markdown tables of one table's columns, each with the first and as many as are not too wide.

    Differences have tables of their own, each beside its p, without lines that have none.
    """
    groups: list[list[int]] = []  # columns that stay together: a difference and its p, the costs
    for column, heading in enumerate(headings):
        if heading in _WITH_THE_ONE_BEFORE:
            groups[-1].append(column)
        else:
            groups.append([column])
    made: list[list[int]] = []
    for group in groups[1:]:
        together = [*(made[-1] if made else [0]), *group]
        ends = [headings[columns[-1]] == _P for columns in (together, made[-1] if made else [0])]
        rows = [_row([line[column] for column in together]) for line in (headings, *lines)]
        if not made or ends[0] != ends[1] or max(map(len, rows)) > _WIDEST:
            made.append([0, *group])
        else:
            made[-1] = together
    tables = []
    for columns in made:
        first, *others = ([line[column] for column in columns] for line in (headings, *lines))
        shown = [first, ["---"] * len(columns), *(line for line in others if any(line[1:]))]
        tables.append("\n".join(map(_row, shown)))
    return tables


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def terminal(table: DatasetTable) -> Table:
    """The table for a terminal."""
    shown = Table(title=table.title, box=None, pad_edge=False, title_justify="left")
    for place, heading in enumerate(table.headings):
        shown.add_column(heading, justify="left" if place < 2 else "right", overflow="fold")
    for line in table.lines:
        shown.add_row(*line)
    return shown

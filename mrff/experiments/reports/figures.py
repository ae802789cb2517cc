"""The look that all charts share, and the lines that a run's history draws in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

Entry = Mapping[str, Any]
Entries = Sequence[Entry]

# Told apart by colour-blind readers too, and on light as on dark ground (after Okabe and Ito).
PALETTE = (
    "#3b82c4", "#e08a1e", "#2a9d6f", "#c8669f", "#7b6bd1",
    "#d6553a", "#4fb3d9", "#b8a32a", "#9a6b4f", "#8a8f98",
)  # fmt: skip
DASHES = ("dash", "dot", "dashdot")
PHASES = {"round": "training", "validation": "validation"}  # of a history, by kind of entry


def of_kind(history: Entries, kind: str) -> list[Entry]:
    """The entries of a kind: round, validation or test."""
    return [entry for entry in history if entry["kind"] == kind]


def column(entries: Entries, name: str) -> list[Any]:
    """A value of every entry, ``PART.NAME`` one of its part; None where it is missing."""
    part, dot, inner = name.partition(".")
    return [(entry.get(part) or {}).get(inner) if dot else entry.get(name) for entry in entries]


def is_known(entries: Entries, name: str) -> bool:
    """Whether any entry has such a value."""
    return any(value is not None for value in column(entries, name))


def new_figure(*, x: str = "", y: str = "", height: int = 320, legend: bool = True) -> go.Figure:
    """An empty figure with named axes; colours of text and grid come from the page."""
    figure = go.Figure()
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 8, "r": 12, "t": 10, "b": 8},
        font={"size": 12},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
        hovermode="x unified",
    )
    figure.update_xaxes(title=x, automargin=True, showline=True, zeroline=False, fixedrange=True)
    figure.update_yaxes(title=y, automargin=True, zeroline=False, fixedrange=True)
    return figure


def as_written(text: str) -> str:
    """A text of the data's for a label: plotly takes ``<b>`` and ``&lt;`` in it for markup."""
    return escape(text, quote=False)


def curves_figure(
    lines: Sequence[tuple[str, Entries, str]],
    *,
    y: str,
    hover: str = "%{y:.4f}",
    unit: float = 1.0,
    **axis: Any,
) -> go.Figure:
    """Curves over rounds, each a name, entries and what to read of them, in ``unit``.

    Args:
        axis: more of the y axis.
    """
    figure = new_figure(x="round", y=y, legend=len(lines) > 1)
    for name, entries, key in lines:
        values = [None if v is None else v / unit for v in column(entries, key)]
        add_line(figure, entries, values, name=name, hover=hover)
    figure.update_yaxes(**axis)
    return figure


def by_phase(history: Entries, key: str) -> list[tuple[str, Entries, str]]:
    """The lines of training and validation for `curves_figure`."""
    return [(phase, of_kind(history, kind), key) for kind, phase in PHASES.items()]


def add_line(
    figure: go.Figure,
    entries: Entries,
    values: Sequence[float | None],
    name: str,
    hover: str = "%{y:.4f}",
) -> None:
    """A curve over the entries' rounds, in the next colour; undefined values are gaps.

    Validations are not in every round: they are marked.
    """
    marked = bool(entries) and entries[0]["kind"] == "validation"
    figure.add_trace(
        go.Scatter(
            x=column(entries, "round"), y=list(values), name=name,
            mode="lines+markers" if marked else "lines", marker={"size": 5},
            line={"color": PALETTE[len(figure.data) % len(PALETTE)], "width": 2},
            hovertemplate=hover,
        )
    )  # fmt: skip


def add_level(figure: go.Figure, entries: Entries, level: float, name: str) -> None:
    """A dashed line at ``level``; page.js gives it the quiet colour that ``meta`` asks for."""
    number = sum(1 for trace in figure.data if trace.meta == "soft")
    rounds = column(entries, "round")
    figure.add_trace(
        go.Scatter(
            x=[rounds[0], rounds[-1]], y=[level, level], name=f"{name} {level:.4f}", mode="lines",
            line={"dash": DASHES[number % len(DASHES)], "width": 1.5}, meta="soft",
            hoverinfo="skip",
        )
    )  # fmt: skip


def mark_round(figure: go.Figure, round_number: int | None) -> None:
    """A vertical line at the best round, if there is one."""
    if round_number is not None:
        figure.add_vline(x=round_number, line_width=1, line_dash="dot")

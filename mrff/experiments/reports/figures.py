"""The look that all charts share: palette, margins, legend below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

# Told apart by colour-blind readers too, and on light as on dark ground (after Okabe and Ito).
PALETTE = (
    "#3b82c4", "#e08a1e", "#2a9d6f", "#c8669f", "#7b6bd1",
    "#d6553a", "#4fb3d9", "#b8a32a", "#9a6b4f", "#8a8f98",
)  # fmt: skip
DASHES = ("dash", "dot", "dashdot")


def new_figure(
    *, x: str = "", y: str = "", height: int = 320, legend: bool = True, **layout: Any
) -> go.Figure:
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
        **layout,
    )
    figure.update_xaxes(title=x, automargin=True, showline=True, zeroline=False, fixedrange=True)
    figure.update_yaxes(title=y, automargin=True, zeroline=False, fixedrange=True)
    return figure


def add_line(
    figure: go.Figure,
    x: Sequence[float],
    y: Sequence[float | None],
    *,
    name: str,
    colour: int = 0,
    points: bool = False,
    hover: str = "%{y:.4f}",
) -> None:
    """A curve; undefined values are gaps."""
    figure.add_trace(
        go.Scatter(
            x=list(x), y=list(y), name=name, mode="lines+markers" if points else "lines",
            line={"color": PALETTE[colour % len(PALETTE)], "width": 2}, marker={"size": 5},
            hovertemplate=hover,
        )
    )  # fmt: skip


def add_level(figure: go.Figure, span: tuple[float, float], level: float, *, name: str) -> None:
    """A dashed line at ``level``, in the quiet colour of the page; see ``meta`` in style.py."""
    number = sum(1 for trace in figure.data if trace.meta == "soft")
    figure.add_trace(
        go.Scatter(
            x=list(span), y=[level, level], name=f"{name} {level:.4f}", mode="lines",
            line={"dash": DASHES[number % len(DASHES)], "width": 1.5}, meta="soft",
            hoverinfo="skip",
        )
    )  # fmt: skip


def mark_round(figure: go.Figure, round_number: int) -> None:
    """A vertical line at the best round."""
    figure.add_vline(x=round_number, line_width=1, line_dash="dot")

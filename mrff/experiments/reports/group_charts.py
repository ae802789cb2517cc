"""Charts of the groups: loads over rounds, churn, the flow between layers, what groups like."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import plotly.graph_objects as go

from mrff.experiments.comparison.bootstrap import Difference
from mrff.experiments.reports.figures import (
    PALETTE,
    Entries,
    as_written,
    by_phase,
    column,
    curves_figure,
    is_known,
    new_figure,
    of_kind,
)
from mrff.experiments.reports.groups import SMALL_GAIN, Group, GroupPicture
from mrff.experiments.reports.likings import Liking
from mrff.experiments.reports.members import Members

PER_GROUP = 4  # likings of a group in the map, if they are not shared
MOST_ROWS = 24  # of the map
MOST_TIMES = 3.0  # colours end here: three times what is expected, or a third


def entries_with_loads(history: Entries) -> Entries:
    """Validations route every user; in a private mode only the rounds' noisy counts are known."""
    for kind in ("validation", "round"):
        found = [entry for entry in of_kind(history, kind) if np.any(entry.get("loads") or 0)]
        if found:
            return found
    return []


def loads_figure(entries: Entries, layer: int) -> go.Figure:
    """Shares of users per group of a layer, stacked to one."""
    figure = new_figure(x="round", y="share of users")
    shares = np.array([entry["loads"][layer] for entry in entries])  # (rounds, K)
    rounds = column(entries, "round")
    for group in range(shares.shape[1]):
        colour = PALETTE[group % len(PALETTE)]
        figure.add_trace(
            go.Scatter(
                x=rounds, y=shares[:, group].tolist(), name=f"group {group + 1}", mode="lines",
                stackgroup="users", line={"width": 0.5, "color": colour},
                hovertemplate="%{y:.1%}",
            )
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[0, max(1.0, float(shares.sum(axis=1).max()))])
    return figure


def churn_figure(history: Entries) -> go.Figure | None:
    """Share of the users who changed a group since they were last trained; None if not known."""
    if not is_known(history, "churn"):
        return None
    lines = by_phase(history, "churn")
    figure = curves_figure(lines, y="share of users", hover="%{y:.1%}", rangemode="tozero")
    figure.update_yaxes(tickformat=".0%")
    return figure


def entropy_figure(history: Entries) -> go.Figure:
    """How evenly users spread: 1 is even, 0 is everybody in one group."""
    lines = [("load entropy", of_kind(history, "round"), "load_entropy")]
    return curves_figure(lines, y="load entropy", hover="%{y:.3f}", range=[0, 1.02])


def flow_figure(picture: GroupPicture) -> go.Figure | None:
    """Users from the groups of each layer to those of the next; None of a single layer."""
    if not picture.flows:
        return None
    experts = len(picture.layers[0])
    colours = [PALETTE[group % len(PALETTE)] for group in range(experts)]
    links: list[tuple[int, int, int, str]] = []  # from, to, users, colour
    for layer, flow in enumerate(picture.flows):
        start, end = np.nonzero(flow)
        first, second = layer * experts + start, (layer + 1) * experts + end
        faint = [_faint(colours[group]) for group in start]
        links += zip(first.tolist(), second.tolist(), flow[start, end].tolist(), faint, strict=True)
    source, target, users, link_colours = zip(*links, strict=True)
    labels = [
        f"{layer}·{number}  {group.users:,}"
        for layer, groups in enumerate(picture.layers, start=1)
        for number, group in enumerate(groups, start=1)
    ]
    figure = new_figure(height=max(320, 40 * experts), legend=False)
    figure.add_trace(
        go.Sankey(
            node={
                "label": labels, "color": colours * len(picture.layers),
                "pad": 14, "thickness": 14, "line": {"width": 0},
                "hovertemplate": "%{value:,} users<extra></extra>",
            },
            link={
                "source": source, "target": target, "value": users, "color": link_colours,
                "hovertemplate": "%{source.label} → %{target.label}: %{value:,}<extra></extra>",
            },
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    return figure


def likes_figure(groups: Sequence[Group]) -> go.Figure | None:
    """Where a layer's groups differ most from what is expected: log2 of the ratio, if anywhere."""
    names = _names_of(groups)
    if not names:
        return None
    likings = [{liking.key: liking for liking in group.likings} for group in groups]
    known = [[of_group.get(key) for of_group in likings] for key in names]
    ratios = [[np.log2(max(cell.times, 1e-3)) if cell else np.nan for cell in row] for row in known]
    words = [[_in_words(cell) if cell else "too few likes" for cell in row] for row in known]
    whole = [[as_written(name)] * len(groups) for name in names.values()]
    rows = list(range(len(names)))  # of names, two may be alike when they are shortened
    limit = float(np.log2(MOST_TIMES))
    figure = new_figure(height=120 + 22 * len(names), legend=False)
    figure.add_trace(
        go.Heatmap(
            z=ratios, x=[f"{g + 1}" for g in range(len(groups))], y=rows, text=words,
            customdata=whole, hovertemplate="%{customdata}, group %{x}: %{text}<extra></extra>",
            zmin=-limit, zmax=limit, zmid=0, xgap=2, ygap=2, hoverongaps=False,
            colorbar={
                "orientation": "h", "y": -0.02, "yanchor": "top", "yref": "paper", "thickness": 8,
                "tickvals": [-limit, 0, limit], "outlinewidth": 0,
                "ticktext": ["1/3", "expected", "3 ×"], "tickangle": 0,
            },
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(side="top", title="group", type="category", showgrid=False, showline=False)
    labels = [as_written(_short(name)) for name in names.values()]
    figure.update_yaxes(autorange="reversed", showgrid=False, tickvals=rows, ticktext=labels)
    return figure


def likes_rows(groups: Sequence[Group], users: int) -> list[list[str]]:
    """A row per group: users, who they are, what they take more of, examples, and the gain."""
    rows = []
    for number, group in enumerate(groups):
        told = group.members or Members()
        rows.append(
            [
                str(number + 1),
                f"{group.users:,} ({group.users / max(users, 1):.0%})",
                told.who or "–",
                "–" if group.like_rate is None else f"{group.like_rate:.1%}",
                "; ".join(f"{one.name}\u00a0×{one.times:.1f}" for one in group.named[:5])
                or "nothing beyond chance",
                "; ".join(told.examples) or "–",
                _gain(group.gain),
            ]
        )
    return rows


def _gain(gain: Difference | None) -> str:
    if gain is None or gain.difference != gain.difference:
        return "–"
    if max(abs(gain.low), abs(gain.high)) < SMALL_GAIN:
        return "changes nothing"
    return f"{gain.difference:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


def _names_of(groups: Sequence[Group]) -> dict[tuple[str, int], str]:
    """The feature values to show, by key, no item twice, every group with its own."""
    chosen = {
        liking.key: liking.name
        for place in range(PER_GROUP)
        for group in groups
        for liking in group.likings[place : place + 1]
    }
    return dict(islice(chosen.items(), MOST_ROWS))


def _in_words(liking: Liking) -> str:
    return f"{liking.share:.1%} of likes, expected {liking.expected:.1%}"


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"

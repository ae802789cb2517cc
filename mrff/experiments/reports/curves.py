"""The curves of a run over its rounds: quality, privacy, traffic and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from mrff.data.floors import Floors
from mrff.experiments.reports.figures import PALETTE, add_level, add_line, mark_round, new_figure

Entry = Mapping[str, Any]
Entries = Sequence[Entry]
FLOOR_NAMES = {
    "user": "user rate",
    "user_item": "user x item rate",
    "user_features": "user x feature rates",
}


def of_kind(history: Entries, kind: str) -> list[Entry]:
    """The entries of a kind: round, validation or test."""
    return [entry for entry in history if entry["kind"] == kind]


def column(entries: Entries, name: str) -> list[Any]:
    """A value of every entry; None where it is missing."""
    return [entry.get(name) for entry in entries]


def quality_figure(history: Entries, measure: str, floors: Floors | None) -> go.Figure:
    """``auc`` or ``log_loss`` on validation data, the floors, the best round and its test."""
    validations, tests = of_kind(history, "validation"), of_kind(history, "test")
    rounds = column(validations, "round")
    figure = new_figure(x="round", y="AUC" if measure == "auc" else "LogLoss", height=380)
    add_line(figure, rounds, column(validations, measure), name="validation", points=True)
    if floors is not None and rounds:
        span = (min(rounds), max(rounds))
        for field, name in FLOOR_NAMES.items():
            floor = getattr(floors, field)
            if floor is not None:
                add_level(figure, span, getattr(floor, measure), name=name)
    best = best_round(history)
    if best is not None:
        mark_round(figure, best)
        at_best = [entry.get(measure) for entry in validations if entry["round"] == best][-1:]
        _point(figure, best, at_best, name="best validation", symbol="diamond", colour=5)
        _point(figure, best, column(tests, measure)[-1:], name="its test", symbol="star", colour=2)
    return figure


def loss_figure(history: Entries) -> go.Figure:
    """The training loss of the sampled users' first local step."""
    rounds = of_kind(history, "round")
    figure = new_figure(x="round", y="loss", legend=False)
    add_line(figure, column(rounds, "round"), column(rounds, "train_loss"), name="training loss")
    if (best := best_round(history)) is not None:
        mark_round(figure, best)
    return figure


def best_round(history: Entries) -> int | None:
    """The last validation that was the best so far."""
    best = [entry["round"] for entry in of_kind(history, "validation") if entry.get("is_best")]
    return best[-1] if best else None


def epsilon_figure(history: Entries, budget: float) -> go.Figure:
    """What the server's ledger has spent, against the budget (0: none)."""
    rounds = of_kind(history, "round")
    numbers = column(rounds, "round")
    figure = new_figure(x="round", y="epsilon", legend=budget > 0)
    add_line(figure, numbers, privacy_column(rounds, "epsilon"), name="spent", hover="%{y:.3f}")
    if budget > 0:
        add_level(figure, (numbers[0], numbers[-1]), budget, name="budget")
    figure.update_yaxes(rangemode="tozero")
    return figure


def noise_figure(history: Entries) -> go.Figure:
    """Signal to noise of the aggregate and the (noisy) share of clipped updates."""
    rounds = of_kind(history, "round")
    numbers = column(rounds, "round")
    figure = new_figure(x="round", y="ratio, share")
    for colour, (key, name) in enumerate(
        (("signal_to_noise", "signal / noise"), ("clipped_share", "share clipped"))
    ):
        values = privacy_column(rounds, key)
        add_line(figure, numbers, values, name=name, colour=colour, hover="%{y:.3f}")
    return figure


def privacy_column(rounds: Entries, name: str) -> list[float | None]:
    """A value of every round's privacy record."""
    return [(entry.get("privacy") or {}).get(name) for entry in rounds]


def bytes_figure(history: Entries) -> go.Figure:
    """Megabytes to and from all nodes, by phase."""
    figure = new_figure(x="round", y="MB")
    for place, (kind, phase) in enumerate((("round", "training"), ("validation", "validation"))):
        entries = of_kind(history, kind)
        for other, (key, way) in enumerate((("bytes_down", "down"), ("bytes_up", "up"))):
            values = [None if v is None else v / 1e6 for v in column(entries, key)]
            add_line(
                figure, column(entries, "round"), values, name=f"{phase}, {way}",
                colour=2 * place + other, points=kind == "validation", hover="%{y:.2f} MB",
            )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure


def seconds_figure(history: Entries) -> go.Figure:
    """How long the phases took; the axis is made for the rounds after the first."""
    figure = new_figure(x="round", y="seconds")
    later = [0.0]
    for colour, (kind, name) in enumerate((("round", "training"), ("validation", "validation"))):
        entries = of_kind(history, kind)
        values = column(entries, "seconds")
        later += [v for v in values[1 if kind == "round" and len(values) > 1 else 0 :] if v]
        add_line(
            figure, column(entries, "round"), values, name=name, colour=colour,
            points=kind == "validation", hover="%{y:.2f} s",
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1.15 * max(later) or 1.0])
    return figure


def _point(figure: go.Figure, x: int, y: list[Any], *, name: str, symbol: str, colour: int) -> None:
    if y and y[0] is not None:
        figure.add_trace(
            go.Scatter(
                x=[x], y=y, name=f"{name} {y[0]:.4f}", mode="markers",
                marker={"symbol": symbol, "size": 12, "color": PALETTE[colour]},
                hovertemplate="%{y:.4f}",
            )
        )  # fmt: skip

"""The curves of a run over its rounds: quality, privacy, traffic and time."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from mrff.data.floors import Floors
from mrff.experiments.reports.figures import (
    PALETTE,
    PHASES,
    Entries,
    add_level,
    add_line,
    column,
    mark_round,
    new_figure,
    of_kind,
)

MEASURES = {"AUC": "auc", "LogLoss": "log_loss"}
FLOORS = {
    "user": "user rate",
    "user_item": "user x item rate",
    "user_features": "user x feature rates",
}


def quality_figure(history: Entries, title: str, floors: Floors | None) -> go.Figure:
    """One of `MEASURES` on validation data, the floors, the best round and its test."""
    validations, tests = of_kind(history, "validation"), of_kind(history, "test")
    measure = MEASURES[title]
    figure = new_figure(x="round", y=title, height=380)
    add_line(figure, validations, column(validations, measure), name="validation")
    for field, name in FLOORS.items():
        floor = getattr(floors, field, None)
        if floor is not None:
            add_level(figure, validations, getattr(floor, measure), name=name)
    best = best_round(history)
    mark_round(figure, best)
    if best is not None:
        at_best = [entry for entry in validations if entry["round"] == best]
        for name, entries, marker in (
            ("best validation", at_best, {"symbol": "diamond", "color": PALETTE[5]}),
            ("its test", tests, {"symbol": "star", "color": PALETTE[2]}),
        ):
            value = entries[-1].get(measure) if entries else None
            if value is not None:
                figure.add_scatter(
                    x=[best], y=[value], name=f"{name} {value:.4f}", mode="markers",
                    marker={**marker, "size": 12}, hovertemplate="%{y:.4f}",
                )  # fmt: skip
    return figure


def loss_figure(history: Entries) -> go.Figure | None:
    """The training loss of the sampled users' first local step; None if no node told it."""
    rounds = of_kind(history, "round")
    losses = column(rounds, "train_loss")
    if not any(loss is not None for loss in losses):
        return None
    figure = new_figure(x="round", y="loss", legend=False)
    add_line(figure, rounds, losses, name="training loss")
    mark_round(figure, best_round(history))
    return figure


def best_round(history: Entries) -> int | None:
    """The last validation that was the best so far."""
    best = [entry["round"] for entry in of_kind(history, "validation") if entry.get("is_best")]
    return best[-1] if best else None


def epsilon_figure(history: Entries, budget: float) -> go.Figure | None:
    """What the server's ledger has spent, against the budget (0: none); None without a ledger."""
    rounds = of_kind(history, "round")
    spent = _of_privacy(rounds, "epsilon")
    if not any(value is not None for value in spent):
        return None
    figure = new_figure(x="round", y="epsilon", legend=budget > 0)
    add_line(figure, rounds, spent, name="spent", hover="%{y:.3f}")
    if budget > 0:
        add_level(figure, rounds, budget, name="budget")
    figure.update_yaxes(rangemode="tozero")
    return figure


def noise_figure(history: Entries) -> go.Figure:
    """Signal to noise of the aggregate and the (noisy) share of clipped updates."""
    rounds = of_kind(history, "round")
    figure = new_figure(x="round", y="ratio, share")
    for key, name in (("signal_to_noise", "signal / noise"), ("clipped_share", "share clipped")):
        add_line(figure, rounds, _of_privacy(rounds, key), name=name, hover="%{y:.3f}")
    return figure


def bytes_figure(history: Entries) -> go.Figure:
    """Megabytes to and from all nodes, by phase."""
    figure = new_figure(x="round", y="MB")
    for kind, phase in PHASES.items():
        entries = of_kind(history, kind)
        for way in ("down", "up"):
            values = [None if v is None else v / 1e6 for v in column(entries, f"bytes_{way}")]
            add_line(figure, entries, values, name=f"{phase}, {way}", hover="%{y:.2f} MB")
    figure.update_yaxes(rangemode="tozero")
    return figure


def seconds_figure(history: Entries) -> go.Figure:
    """How long the phases took; the axis is made for the rounds after the first."""
    figure = new_figure(x="round", y="seconds")
    later = [0.0]
    for kind, phase in PHASES.items():
        entries = of_kind(history, kind)
        values = column(entries, "seconds")
        later += [v for v in values[1 if kind == "round" and len(values) > 1 else 0 :] if v]
        add_line(figure, entries, values, name=phase, hover="%{y:.2f} s")
    figure.update_yaxes(range=[0, 1.15 * max(later) or 1.0])
    return figure


def _of_privacy(rounds: Entries, name: str) -> list[Any]:
    """A value of every round's privacy record."""
    return column([entry.get("privacy") or {} for entry in rounds], name)

"""The curves of a run over its rounds: quality, privacy, traffic and time."""

from __future__ import annotations

import plotly.graph_objects as go

from mrff.data.floors import Floors
from mrff.experiments.reports.figures import (
    PALETTE,
    PHASES,
    Entries,
    add_level,
    add_line,
    by_phase,
    column,
    curves_figure,
    is_known,
    mark_round,
    new_figure,
    of_kind,
)

MEASURES = {"AUC": "auc", "LogLoss": "log_loss", "HR@10": "hr10", "NDCG@10": "ndcg10"}
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
        level = getattr(getattr(floors, field, None), measure, None)
        if level is not None:
            add_level(figure, validations, level, name=name)
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
    if not is_known(rounds, "train_loss"):
        return None
    figure = curves_figure([("training loss", rounds, "train_loss")], y="loss")
    mark_round(figure, best_round(history))
    return figure


def best_round(history: Entries) -> int | None:
    """The last validation that was the best so far."""
    best = [entry["round"] for entry in of_kind(history, "validation") if entry.get("is_best")]
    return best[-1] if best else None


def epsilon_figure(history: Entries, budget: float) -> go.Figure | None:
    """What the server's ledger has spent, against the budget (0: none); None without a ledger."""
    rounds = of_kind(history, "round")
    if not is_known(rounds, "privacy.epsilon"):
        return None
    spent = [("spent", rounds, "privacy.epsilon")]
    figure = curves_figure(spent, y="epsilon", hover="%{y:.3f}", rangemode="tozero")
    if budget > 0:
        figure.update_layout(showlegend=True)
        add_level(figure, rounds, budget, name="budget")
    return figure


def noise_figure(history: Entries) -> go.Figure:
    """Signal to noise of the aggregate and the (noisy) share of clipped updates."""
    rounds = of_kind(history, "round")
    parts = (("signal / noise", "signal_to_noise"), ("share clipped", "clipped_share"))
    lines = [(name, rounds, f"privacy.{key}") for name, key in parts]
    return curves_figure(lines, y="ratio, share", hover="%{y:.3f}")


def bytes_figure(history: Entries) -> go.Figure:
    """Megabytes to and from all nodes, by phase."""
    lines = [
        (f"{phase}, {way}", of_kind(history, kind), f"bytes_{way}")
        for kind, phase in PHASES.items()
        for way in ("down", "up")
    ]
    return curves_figure(lines, y="MB", hover="%{y:.2f} MB", unit=1e6, rangemode="tozero")


def seconds_figure(history: Entries) -> go.Figure:
    """How long the phases took; the axis is made for the rounds after the first."""
    training, validation = (column(of_kind(history, kind), "seconds") for kind in PHASES)
    later = [0.0, *(v for v in (*(training[1:] or training), *validation) if v)]
    most = 1.15 * max(later) or 1.0
    lines = by_phase(history, "seconds")
    return curves_figure(lines, y="seconds", hover="%{y:.2f} s", range=[0, most])

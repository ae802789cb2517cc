"""Whether a predicted probability is the share that comes true."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from client_app.kept_scores import KeptScores
from mrff.experiments.reports.figures import PALETTE, new_figure

PARTS = 10  # of as many targets each
DEVIATIONS = 1.96  # of an interval of 95 %


def calibration_figure(scores: KeptScores) -> go.Figure | None:
    """Mean prediction and share of label 1 in tenths of the test's targets; None without clicks."""
    if scores.logits is None:
        return None
    logits, labels = scores.logits.ravel(), scores.labels.ravel()
    predicted = 1.0 / (1.0 + np.exp(-logits))
    order = np.argsort(predicted, kind="stable")
    tenths = [part for part in np.array_split(order, PARTS) if len(part)]
    said = [float(predicted[part].mean()) for part in tenths]
    found = [float(labels[part].mean()) for part in tenths]
    bounds = [wilson(share, len(part)) for share, part in zip(found, tenths, strict=True)]
    figure = new_figure(x="predicted probability", y="share of label 1", height=380)
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], name="perfect", mode="lines", meta="soft", hoverinfo="skip",
            line={"dash": "dash", "width": 1.5},
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=said, y=found, name="MRFF", mode="lines+markers", marker={"size": 8},
            line={"color": PALETTE[0], "width": 2},
            customdata=[len(part) for part in tenths],
            hovertemplate="%{y:.1%} came true of %{customdata:,}",
            error_y={
                "array": [high - share for (_, high), share in zip(bounds, found, strict=True)],
                "arrayminus": [share - low for (low, _), share in zip(bounds, found, strict=True)],
            },
        )
    )  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return figure


def wilson(share: float, number: int) -> tuple[float, float]:
    """Interval of 95 % of a share of ``number`` (Wilson 1927)."""
    square = DEVIATIONS**2
    centre = (share + square / (2 * number)) / (1 + square / number)
    half = np.sqrt(share * (1 - share) / number + square / (4 * number**2))
    half *= DEVIATIONS / (1 + square / number)
    return float(centre - half), float(centre + half)

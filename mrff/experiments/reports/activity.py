"""How users of little and of much history fare, beside what counting alone would give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from client_app.kept_scores import KeptScores
from mrff.data.dataset import Dataset
from mrff.data.floors import predict_by_rates
from mrff.experiments.comparison.bootstrap import Difference, paired_difference, resampled
from mrff.experiments.comparison.measures import TESTED, Floats, Weighted, restricted
from mrff.experiments.reports.curves import FLOORS
from mrff.experiments.reports.figures import DASHES, PALETTE, new_figure
from strategies.linear_phase import TESTED as RANKED_BY

NAMES = ("cold", "light", "middle", "busy", "heavy")
SHOWN = ("auc", "hr10")
LISTS = {"popularity": "popularity", "ease": "EASE", "slit": "SLIT", "rules": "rules"}
"""What ranks without a network, by its name in a test's parts."""
RESAMPLES, CONFIDENCE = 400, 0.95


@dataclass(frozen=True)
class People:
    """Tested users of all nodes, in one order."""

    users: NDArray[np.int64]  # (U,) rows in the dataset
    rows: NDArray[np.int64]  # (U,) interactions before the test's
    scores: KeptScores  # of the run's best model
    others: Mapping[str, KeptScores]  # of what is simpler, on the same targets


@dataclass(frozen=True)
class Fare:
    """A measure of some users, with an interval of 95 %, and of what is simpler."""

    own: float
    low: float
    high: float
    others: Mapping[str, float]
    gains: Mapping[str, Difference]  # over each of the others


@dataclass(frozen=True)
class Class:
    """A fifth of the users, by how many interactions they have before the test."""

    name: str
    rows: tuple[int, int]  # least and most
    users: int
    fares: Mapping[str, Fare]  # by name in `SHOWN`; those that are defined


def tested_people(
    dataset: Dataset, users: NDArray[np.int64], scores: KeptScores, *, holdout: int
) -> People:
    """With what is simpler on the same rows: floors of clicks, linear models of lists.

    Args:
        users: (U,) rows in the dataset, in the order of the scores.
    """
    rows = np.diff(dataset.offsets)[users] - holdout
    others = {} if scores.logits is None else _floors(dataset, users, scores, holdout=holdout)
    if scores.ranks is not None and scores.ranks.better.shape[-1] == len(RANKED_BY):
        for name, label in LISTS.items():
            ranks = scores.ranks.by_mix(RANKED_BY.index(name))
            others[label] = replace(scores, logits=None, ranks=ranks)
    return People(users, rows, scores, others)


def _floors(
    dataset: Dataset, users: NDArray[np.int64], scores: KeptScores, *, holdout: int
) -> dict[str, KeptScores]:
    """Empty where they are of other rows: a run may hold out what rates do not."""
    found = predict_by_rates(dataset, holdout=holdout, part="test")
    places = np.searchsorted(found.users, users)
    places = np.minimum(places, len(found.users) - 1)
    if not np.array_equal(found.users[places], users):
        return {}
    if not np.array_equal(found.labels[places] > 0, scores.labels > 0.5):
        return {}
    return {
        told: replace(scores, logits=found.logits[name][places], ranks=None)
        for name, told in FLOORS.items()
        if name in found.logits
    }


def everybody(people: People) -> dict[str, Fare]:
    """Fares of all users together."""
    return _fares(people, np.ones(len(people.rows)))


def classes(people: People) -> list[Class]:
    """Five of about the same size, fewer where many users have the same number of rows."""
    edges = np.quantile(people.rows, np.linspace(0, 1, len(NAMES) + 1)[1:-1])
    part = np.searchsorted(edges, people.rows)  # whoever is at an edge is below it
    found = []
    for number, name in enumerate(NAMES):
        inside = part == number
        if inside.any():
            rows = people.rows[inside]
            fares = _fares(people, inside.astype(np.float64))
            found.append(Class(name, (int(rows.min()), int(rows.max())), int(inside.sum()), fares))
    return found


def fares_figure(found: list[Class], name: str) -> go.Figure:
    """One of `SHOWN` by class, with intervals; the others as dashed lines."""
    figure = new_figure(y=TESTED[name].label, height=340)
    shown = [one for one in found if name in one.fares]
    fares = [one.fares[name] for one in shown]
    labels = [f"{one.name}<br>{told(one.rows)} rows" for one in shown]
    own = [fare.own for fare in fares]
    figure.add_trace(
        go.Scatter(
            x=labels, y=own, name="MRFF", mode="lines+markers", marker={"size": 8},
            line={"color": PALETTE[0], "width": 2}, hovertemplate="%{y:.4f}",
            error_y={
                "array": [fare.high - fare.own for fare in fares],
                "arrayminus": [fare.own - fare.low for fare in fares],
            },
        )
    )  # fmt: skip
    for place, other in enumerate(fares[0].others if fares else ()):
        figure.add_trace(
            go.Scatter(
                x=labels, y=[fare.others[other] for fare in fares], name=other, mode="lines",
                line={"dash": DASHES[place % len(DASHES)], "width": 1.5}, meta="soft",
                hovertemplate="%{y:.4f}",
            )
        )  # fmt: skip
    return figure


def told(rows: tuple[int, int]) -> str:
    """``12-30``."""
    least, most = rows
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"


def _fares(people: People, inside: Floats) -> dict[str, Fare]:
    """Of users with a weight (U,) of 1."""
    asked: dict[str, dict[str, list[Weighted]]] = {}
    for name in SHOWN:
        for who, scores in {"": people.scores, **people.others}.items():
            measure = TESTED[name].of(scores)
            if measure is not None:
                asked.setdefault(name, {})[who] = [partial(restricted, measure, inside)]
    asked = {name: of for name, of in asked.items() if "" in of}
    drawn_from = len(people.rows), people.scores.labels.shape[1]
    found = resampled(asked, drawn_from, resamples=RESAMPLES, seed=[0])
    fares = {}
    for name, of in found.items():
        own = of.pop("")
        if not np.isfinite(own[0, 0]):
            continue
        low, high = np.nanquantile(own[0, 1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        gains = {
            who: paired_difference(own, values, confidence=CONFIDENCE, seed=[1])
            for who, values in of.items()
        }
        others = {who: float(values[0, 0]) for who, values in of.items()}
        fares[name] = Fare(float(own[0, 0]), float(low), float(high), others, gains)
    return fares

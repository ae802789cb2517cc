"""Who is in which group and what each group likes, from the private state at hand.

Routes and likes of single users never leave a node; this is for a simulation, whose nodes are
all on this machine, or for a look at one's own node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from client_app.cohort_evaluation import score_cohort
from client_app.node import Node
from client_app.rounds import open_cohort
from mrff.data.dataset import Dataset
from mrff.data.schema import Feature

LEAST_LIKES = 5  # of a feature value in a group before anything is said of it
PRIOR_LIKES = 20.0  # a group's share is drawn towards the average by so many likes


@dataclass(frozen=True)
class Liking:
    """How a group's likes spread over one feature value, against everybody's."""

    name: str  # "genres: Horror"
    share: float  # of the group's likes
    average: float  # of all likes
    times: float  # share / average, drawn towards 1 where likes are few
    surprise: float  # in standard errors


@dataclass(frozen=True)
class Group:
    """One group of a layer."""

    users: int
    like_rate: float | None
    likings: list[Liking]  # the most surprising preferences first


@dataclass(frozen=True)
class GroupPicture:
    """All groups of all layers, and how users flow between them."""

    flows: list[np.ndarray]  # (K, K) users, from layer l to layer l + 1
    layers: list[list[Group]]
    users: int


def group_picture(nodes: Iterable[Node], best_round: int, titles: list[str]) -> GroupPicture:
    """Routes every user with the best model and counts what the groups like in training data."""
    counts: _Counts | None = None
    for node in nodes:
        if len(node.users):
            cohort, _ = open_cohort(node, node.users, up_to_round=best_round)
            routes = score_cohort(node.network, cohort, data=node.config.data, part="test").routes
            if counts is None:
                counts = _Counts(node.dataset, routes.shape[1], node.network.num_experts)
            counts.add(node.dataset, node.users, routes, node.config.data.holdout)
    if counts is None:
        return GroupPicture([], [], 0)
    return counts.picture(titles)


class _Counts:
    """Sums over nodes."""

    def __init__(self, dataset: Dataset, layers: int, experts: int) -> None:
        self.features = dataset.schema.item_features
        self.users = np.zeros((layers, experts), dtype=np.int64)
        self.rows, self.likes = np.zeros_like(self.users), np.zeros_like(self.users)
        self.flows = [np.zeros((experts, experts), dtype=np.int64) for _ in range(layers - 1)]
        self.values = [
            {f.name: np.zeros((experts, f.size), dtype=np.int64) for f in self.features}
            for _ in range(layers)
        ]

    def add(self, dataset: Dataset, users: np.ndarray, routes: np.ndarray, holdout: int) -> None:
        experts = self.users.shape[1]
        sizes = np.diff(dataset.offsets)[users] - 2 * holdout
        owner = np.repeat(np.arange(len(users)), sizes)  # of every training row
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = dataset.offsets[users][owner] + within
        liked = dataset.labels[rows] > 0
        for layer, route in enumerate(routes.T):
            self.users[layer] += np.bincount(route, minlength=experts)
            self.rows[layer] += np.bincount(route[owner], minlength=experts)
            self.likes[layer] += np.bincount(route[owner[liked]], minlength=experts)
            for feature in self.features:
                codes = dataset.item_features[feature.name][dataset.items[rows[liked]]]
                codes = codes.reshape(len(codes), -1)
                places = route[owner[liked]][:, None] * feature.size + codes
                found = np.bincount(places[codes > 0], minlength=experts * feature.size)
                self.values[layer][feature.name] += found.reshape(experts, -1)
        for layer, flow in enumerate(self.flows):
            np.add.at(flow, (routes[:, layer], routes[:, layer + 1]), 1)

    def picture(self, titles: list[str]) -> GroupPicture:
        layers = [
            [self._group(layer, group, titles) for group in range(self.users.shape[1])]
            for layer in range(len(self.users))
        ]
        return GroupPicture(self.flows, layers, int(self.users[0].sum()))

    def _group(self, layer: int, group: int, titles: list[str]) -> Group:
        rows, likes = int(self.rows[layer, group]), int(self.likes[layer, group])
        likings: list[Liking] = []
        for feature in self.features:
            table = self.values[layer][feature.name]
            average = table.sum(axis=0) / max(int(self.likes[layer].sum()), 1)
            found = table[group]
            for code in np.flatnonzero((found >= LEAST_LIKES) & (average < 1.0)):
                mean = float(average[code])
                error = np.sqrt(mean * (1.0 - mean) / likes)
                share = float(found[code] / likes)
                times = (found[code] + PRIOR_LIKES * mean) / (likes + PRIOR_LIKES) / mean
                name = _name(feature, int(code), titles)
                likings.append(Liking(name, share, mean, float(times), (share - mean) / error))
        likings.sort(key=lambda liking: -liking.surprise)
        rate = likes / rows if rows else None
        return Group(int(self.users[layer, group]), rate, likings)


def _name(feature: Feature, code: int, titles: list[str]) -> str:
    if feature.kind == "id":
        return titles[code]
    value = feature.values[code - 1] if code <= len(feature.values) else str(code)
    return f"{feature.name}: {value}"

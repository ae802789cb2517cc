"""Who is in which group and what each group likes, from the private state at hand.

Routes and likes of single users never leave a node; this is for a simulation, whose nodes are
all on this machine, or for a look at one's own node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client_app.learners.cohort import CohortLearner
from client_app.node import Node
from mrff.data.dataset import Dataset, load_titles
from mrff.data.schema import Feature
from mrff.data.windows import eligible_users, train_sizes
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import RunError, find_run, load_best

LEAST_LIKES = 5  # of a feature value in a group before anything is said of it
PRIOR_LIKES = 20.0  # a group's share is drawn towards the average by so many likes


@dataclass(frozen=True)
class Liking:
    """How a group's likes spread over one feature value, against everybody's."""

    key: tuple[str, int]  # feature and code: names may be alike
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


def read_picture(
    run: str, data_dir: Path | None, state_dir: Path | None
) -> tuple[GroupPicture | None, str]:
    """The picture from the private state at hand; or None, and why not."""
    try:
        best = load_best(find_run(run))
    except RunError as error:
        return None, str(error)
    nodes = NodesAtHand(best, data_dir, state_dir)
    if not nodes.has_private_state:
        return None, f"there is no private state in {nodes.state_folder}"
    try:
        titles = load_titles(nodes.dataset_folder)
        return group_picture(nodes.open_all(), best.round, titles), ""
    except (ValueError, OSError) as error:  # moved data, another run's state: the rest still holds
        return None, str(error)


def group_picture(nodes: Iterable[Node], best_round: int, titles: list[str]) -> GroupPicture:
    """Routes every user with the best model and counts what the groups like in training data."""
    counts: _Counts | None = None
    for node in nodes:
        config = node.config.for_scoring
        users = node.tested
        if not node.config.tests:  # everybody who has a last interaction to be routed for
            users = eligible_users(node.dataset, holdout=config.data.holdout)
        if len(users):
            cohort = node.cohort(users, up_to_round=best_round)
            learner = CohortLearner(node.mrff, config)
            routes = learner.score_as_loaded(cohort, "test").routes
            if counts is None:
                counts = _Counts(node.dataset, routes.shape[1], node.mrff.num_experts)
            counts.add(node.dataset, users, routes, node.config.data.holdout)
    if counts is None:
        return GroupPicture([], [], 0)
    return counts.picture(titles)


class _Counts:
    """Sums over nodes."""

    def __init__(self, dataset: Dataset, layers: int, experts: int) -> None:
        self.features = dataset.schema.item_features
        self.users = np.zeros((layers, experts), dtype=np.int64)
        self.rows, self.likes = np.zeros_like(self.users), np.zeros_like(self.users)
        self.flows = np.zeros((layers - 1, experts, experts), dtype=np.int64)
        self.values = {
            f.name: np.zeros((layers, experts, f.size), dtype=np.int64) for f in self.features
        }

    def add(self, dataset: Dataset, users: np.ndarray, routes: np.ndarray, holdout: int) -> None:
        """Counts one node's users; their routes are (U, layers)."""
        sizes = train_sizes(dataset, users, holdout=holdout)
        owner = np.repeat(np.arange(len(users)), sizes)  # of every training row
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = dataset.offsets[users][owner] + within
        is_liked = dataset.labels[rows] > 0
        liked, layer = routes[owner[is_liked]], np.arange(routes.shape[1])
        np.add.at(self.users, (layer, routes), 1)
        np.add.at(self.rows, (layer, routes[owner]), 1)
        np.add.at(self.likes, (layer, liked), 1)
        np.add.at(self.flows, (layer[:-1], routes[:, :-1], routes[:, 1:]), 1)
        for feature in self.features:
            codes = dataset.item_features[feature.name][dataset.items[rows[is_liked]]]
            codes = codes.reshape(len(codes), -1)
            at, place = np.nonzero(codes)
            np.add.at(self.values[feature.name], (layer, liked[at], codes[at, place, None]), 1)

    def picture(self, titles: list[str]) -> GroupPicture:
        layers = [
            [self._group(layer, group, titles) for group in range(self.users.shape[1])]
            for layer in range(len(self.users))
        ]
        return GroupPicture(list(self.flows), layers, int(self.users[0].sum()))

    def _group(self, layer: int, group: int, titles: list[str]) -> Group:
        rows, likes = int(self.rows[layer, group]), int(self.likes[layer, group])
        likings: list[Liking] = []
        for feature in self.features:
            table = self.values[feature.name][layer]
            average = table.sum(axis=0) / max(int(self.likes[layer].sum()), 1)
            found = table[group]
            for code in np.flatnonzero((found >= LEAST_LIKES) & (average < 1.0)):
                mean = float(average[code])
                error = np.sqrt(mean * (1.0 - mean) / likes)
                share = float(found[code] / likes)
                times = (found[code] + PRIOR_LIKES * mean) / (likes + PRIOR_LIKES) / mean
                key, name = (feature.name, int(code)), _name(feature, int(code), titles)
                surprise = (share - mean) / error
                likings.append(Liking(key, name, share, mean, float(times), surprise))
        likings.sort(key=lambda liking: -liking.surprise)
        rate = likes / rows if rows else None
        return Group(int(self.users[layer, group]), rate, likings)


def _name(feature: Feature, code: int, titles: list[str]) -> str:
    if feature.kind == "id":
        return titles[code]
    value = feature.values[code - 1] if code <= len(feature.values) else str(code)
    return f"{feature.name}: {value}"

"""Who is in which group, what each group likes, and what groups bring, from the state at hand.

Routes and likes of single users never leave a node; this is for a simulation, whose nodes are
all on this machine, or for a look at one's own node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import numpy as np
from sklearn.metrics import adjusted_rand_score

from mrff.data.dataset import load_dataset, load_times, load_titles
from mrff.experiments.comparison.bootstrap import Difference
from mrff.experiments.reports.activity import People, tested_people
from mrff.experiments.reports.group_effect import Effect, UserGroups, routed
from mrff.experiments.reports.likings import Likes, Liking
from mrff.experiments.reports.members import Members, members
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import RunError, find_run, load_best

FALSE_ALARMS = 0.05  # expected named likings of a layer whose groups mean nothing
LEAST_TIMES = 1.1  # a liking that is named is this much above what is expected
IN_A_NAME = 3
SMALL_GAIN = 0.001  # of the measure: below it nobody notices


@dataclass(frozen=True)
class Group:
    """One group of a layer."""

    users: int
    like_rate: float | None
    likings: list[Liking]  # the most surprising ones first
    critical: float = 3.0  # standard errors that chance does not reach
    members: Members | None = None
    gain: Difference | None = None  # of its members by their own experts; None: not known

    @property
    def named(self) -> list[Liking]:
        """What the group takes more of than people as active, at the same time."""
        return [
            liking
            for liking in self.likings
            if liking.surprise > self.critical and liking.times >= LEAST_TIMES
        ]

    @property
    def name(self) -> str:
        """What its members have in common, in words; empty: nothing that could be named."""
        return ", ".join(liking.name for liking in self.named[:IN_A_NAME])


@dataclass(frozen=True)
class GroupPicture:
    """All groups of all layers, and how users flow between them."""

    flows: list[np.ndarray]  # (K, K) users, from layer l to layer l + 1
    layers: list[list[Group]]
    users: int
    effect: Effect | None = None  # None: there is one group, or no test
    agreement: tuple[str, list[float]] | None = None  # another run's name, and by layer the
    # adjusted Rand index of its groups with these
    people: People | None = None  # None: nobody is tested

    @property
    def verdict(self) -> str:
        """Whether the groups mean anything here, in one sentence."""
        several = [g for groups in self.layers if len(groups) > 1 for g in groups if g.users]
        if not several:
            return "There is one group: everybody goes through the same experts."
        named = sum(bool(group.name) for group in several)
        who = f"{named} of {len(several)} groups take" if named else "no group takes"
        likes = (
            f"{who} more of anything than its members' activity and the time of their rows explain"
        )
        if self.effect is None:
            return f"What the groups bring was not tested; {likes}."
        gain = self.effect.gain
        brings = (
            f"the test's {self.effect.label} is {self.effect.own:.4f} with users' own experts, "
            f"{gain.difference:+.4f} against one expert for everybody "
            f"(95 % interval {gain.low:+.4f} to {gain.high:+.4f})"
        )
        if gain.low > SMALL_GAIN:
            return f"Groups matter here: {brings}, and {likes}."
        if gain.high < -SMALL_GAIN:
            return f"Groups cost something here: {brings}, and {likes}."
        if named:
            return f"Groups like different things, and change nothing here: {brings}, and {likes}."
        return f"Groups mean nothing here: {brings}, and {likes}."


def read_picture(
    run: str, data_dir: Path | None, state_dir: Path | None, against: str | None = None
) -> tuple[GroupPicture | None, str]:
    """The picture from the private state at hand; or None, and why not.

    Args:
        against: another run on the same users, for whether the same ones are together there.
    """
    try:
        nodes = _at_hand(run, data_dir, state_dir)
        other = _at_hand(against, data_dir, None) if against else None
        return group_picture(nodes, other), ""
    except (ValueError, OSError) as error:  # moved data, another run's state: the rest still holds
        return None, str(error)


def _at_hand(run: str, data_dir: Path | None, state_dir: Path | None) -> NodesAtHand:
    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    if not nodes.has_private_state:
        raise RunError(f"there is no private state in {nodes.state_folder}")
    return nodes


def group_picture(nodes: NodesAtHand, other: NodesAtHand | None = None) -> GroupPicture:
    """Routes every user with the best model, and counts what the groups like in training data."""
    found = _routed(nodes)
    if found is None:
        return GroupPicture([], [], 0)
    experts = nodes.best.config.network.num_experts
    dataset = load_dataset(nodes.dataset_folder)
    order = np.argsort(dataset.user_keys)
    users = order[np.searchsorted(dataset.user_keys, found.keys, sorter=order)]
    routes = np.full((dataset.num_users, found.routes.shape[1]), -1)
    routes[users] = found.routes
    titles, times = load_titles(nodes.dataset_folder), load_times(nodes.dataset_folder)
    likes = Likes.of(dataset, times, nodes.best.config.data.holdout)
    flows = []
    for pair in pairwise(found.routes.T):
        flows.append(np.zeros((experts, experts), np.int64))
        np.add.at(flows[-1], pair, 1)
    layers = [_groups(likes, of_layer, experts, titles) for of_layer in routes.T]
    if found.effect is not None:
        layers = [
            [replace(g, gain=found.effect.within(column == n)) for n, g in enumerate(groups)]
            for column, groups in zip(found.routes.T, layers, strict=True)
        ]
    agreement = _agreement(found, other) if other else None
    people = None
    if found.tested is not None:
        holdout = nodes.best.config.data.holdout
        people = tested_people(dataset, users, found.tested, holdout=holdout)
    return GroupPicture(flows, layers, len(users), found.effect, agreement, people)


def _routed(nodes: NodesAtHand) -> UserGroups | None:
    return routed(list(nodes.open_all()), nodes.best.round, nodes.best.mixture)


def _groups(likes: Likes, routes: np.ndarray, experts: int, titles: list[str]) -> list[Group]:
    """Of one layer; routes are (U,)."""
    likings = likes.likings(routes, experts, titles)
    said = max(sum(map(len, likings)), 1)
    critical = NormalDist().inv_cdf(1.0 - FALSE_ALARMS / said)
    rows = likes.rows
    found = []
    for group, of_group in enumerate(likings):
        here = routes == group
        number, liked = int(rows[here].sum()), int(np.diff(likes.offsets)[here].sum())
        rate = liked / number if number else None
        one = Group(int(here.sum()), rate, of_group, critical)
        found.append(replace(one, members=members(likes, here, one.named, titles)))
    return found


def _agreement(found: UserGroups, other: NodesAtHand) -> tuple[str, list[float]]:
    """The adjusted Rand index by layer, over the users of both (Hubert and Arabie 1985)."""
    there = _routed(other)
    if there is None:
        return other.best.training_id, []
    _, here, back = np.intersect1d(found.keys, there.keys, return_indices=True)
    pairs = zip(found.routes[here].T, there.routes[back].T, strict=False)
    return other.best.training_id, [float(adjusted_rand_score(*pair)) for pair in pairs]

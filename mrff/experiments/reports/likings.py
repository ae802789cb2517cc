"""What members of groups like more than is expected of people as active, at the same time.

A group whose members came late likes what was new then, and one of heavy users what is far down
every list: neither says anything about taste. So rows are put into strata by their time and by how
many rows their user has, and a group is expected to like in each stratum what everybody likes there
(indirect standardisation: Breslow and Day, "Statistical methods in cancer research" II, 1987).
Errors are by users, not by rows: one person's five hundred westerns are one person's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset, rows_between
from mrff.data.schema import Feature
from mrff.experiments.reports.feature_names import named_value, tells_time

TIMES, ACTIVITIES = 20, 5  # parts, of as many rows and of as many users each
MOST_VALUES = 200  # of a feature: the ones that are liked most
LEAST_LIKES = 5  # of a feature value in a group before anything is said of it
PRIOR_LIKES = 20.0  # a group's share is drawn towards what is expected by so many likes
USERS_AT_ONCE = 20_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Liking:
    """How a group's likes spread over one feature value, against what is expected of it."""

    key: tuple[str, int]  # feature and code: names may be alike
    name: str  # "genres: Horror"
    share: float  # of the group's likes
    expected: float  # share, of people as active at the same time
    times: float  # share / expected, drawn towards 1 where likes are few
    surprise: float  # in standard errors


@dataclass(frozen=True)
class Likes:
    """Liked rows of users, n of them, in the order of users.

    Args:
        offsets: (U + 1,) of users.
        items, strata: (n,) of the rows.
        rows: (U,) how many each user has, liked or not.
    """

    dataset: Dataset
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    strata: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, times: NDArray[np.int64], holdout: int) -> Likes:
        """Of all rows but the last 2 ``holdout`` of each user.

        Args:
            times: (N,) of the dataset's rows, in any unit.
        """
        sizes = np.diff(dataset.offsets)
        kept = np.maximum(sizes - 2 * holdout, 0)
        rows = rows_between(dataset.offsets[:-1], dataset.offsets[:-1] + kept)
        owner = np.repeat(np.arange(len(sizes)), kept)
        liked = dataset.labels[rows] > 0
        rows, owner = rows[liked], owner[liked]
        strata = _parts(times, TIMES)[rows] * ACTIVITIES + _parts(sizes, ACTIVITIES)[owner]
        offsets = np.searchsorted(owner, np.arange(len(sizes) + 1))
        return cls(dataset, offsets, dataset.items[rows], strata, kept)

    def likings(
        self, routes: NDArray[np.int64], groups: int, titles: list[str]
    ) -> list[list[Liking]]:
        """The likings of every group of one layer, the most surprising ones first.

        Args:
            routes: (U,) of users, -1 where nobody knows.
            groups: K, of which routes are.
            titles: of items, by code.
        """
        found: list[list[Liking]] = [[] for _ in range(groups)]
        for feature in self.dataset.schema.item_features:
            if tells_time(feature):  # when its likers came, not what for
                continue
            codes, sums = self._sums(feature, routes, groups)
            for group, of_group in enumerate(sums):
                found[group] += _likings(feature, codes, of_group, titles)
        for likings in found:
            likings.sort(key=lambda liking: -liking.surprise)
        return found

    def _sums(
        self, feature: Feature, routes: NDArray[np.int64], groups: int
    ) -> tuple[NDArray[np.int64], Floats]:
        """Codes (V,) of a feature, and (groups, 4, V): likes, expected, their variance, of all."""
        known = np.repeat(routes >= 0, np.diff(self.offsets))
        table = self.dataset.item_features[feature.name]
        values = table.reshape(len(table), -1)[self.items]  # (n, M)
        counts = np.bincount(values[known].ravel(), minlength=feature.size)
        counts[0] = 0
        codes = np.sort(np.argsort(-counts, kind="stable")[:MOST_VALUES])
        codes = codes[counts[codes] > 0]
        place = np.full(len(counts), -1)
        place[codes] = np.arange(len(codes))
        strata = TIMES * ACTIVITIES
        shares = np.zeros((strata, len(codes)))
        row, column = np.nonzero((place[values] >= 0) & known[:, None])
        np.add.at(shares, (self.strata[row], place[values[row, column]]), 1.0)
        shares /= np.maximum(np.bincount(self.strata[known], minlength=strata), 1)[:, None]
        sums = np.zeros((groups, 4, len(codes)))
        for first in range(0, len(routes), USERS_AT_ONCE):
            users = slice(first, min(first + USERS_AT_ONCE, len(routes)))
            rows = slice(self.offsets[users.start], self.offsets[users.stop])
            owner = np.repeat(
                np.arange(users.stop - first), np.diff(self.offsets[first : users.stop + 1])
            )
            of_strata = np.zeros((users.stop - first, strata))
            np.add.at(of_strata, (owner, self.strata[rows]), 1.0)
            likes = np.zeros((users.stop - first, len(codes)))
            row, column = np.nonzero(place[values[rows]] >= 0)
            np.add.at(likes, (owner[row], place[values[rows][row, column]]), 1.0)
            expected = of_strata @ shares
            everything = np.repeat(of_strata.sum(1, keepdims=True), len(codes), axis=1)
            parts = (likes, expected, np.square(likes - expected), everything)
            for group in range(groups):
                here = routes[users] == group
                sums[group] += np.stack([part[here].sum(axis=0) for part in parts])
        return codes, sums


def _likings(
    feature: Feature, codes: NDArray[np.int64], sums: Floats, titles: list[str]
) -> list[Liking]:
    """One group's, of one feature."""
    found = []
    for code, likes, expected, variance, everything in zip(codes.tolist(), *sums, strict=True):
        if likes < LEAST_LIKES or expected >= everything or not variance:
            continue
        prior = PRIOR_LIKES * expected / everything
        found.append(
            Liking(
                (feature.name, code),
                titles[code] if feature.kind == "id" else named_value(feature, code),
                float(likes / everything), float(expected / everything),
                float((likes + prior) / (expected + prior)),
                float((likes - expected) / np.sqrt(variance)),
            )
        )  # fmt: skip
    return found


def _parts(values: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Which of ``number`` parts of about the same size each value is in, from 0."""
    edges = np.quantile(values, np.linspace(0.0, 1.0, number + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")

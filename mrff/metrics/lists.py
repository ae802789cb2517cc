"""What the users' lists are made of: how much of the catalogue, and how popular it is.

A list is the ten best candidates of a user by the run's own scores. Counted in tests only: as many
numbers as there are items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mrff.metrics.metric import LISTED, Grain, Metric, Numbers, Scored, Statistic
from mrff.sums import CohortSums, Quantity

ITEM_COUNTS = "item_counts"  # how often items were met in training, where the server has asked


def _compute(scored: Scored, grain: Grain) -> Numbers:
    assert scored.ranks is not None
    if not grain.listed:
        return {}
    codes = scored.ranks.listed[scored.ranks.counts].ravel()
    return {"listed": np.bincount(codes, minlength=grain.listed + 1)[1:]}


def _quantities(grain: Grain) -> Mapping[str, Quantity]:
    return {"listed": Quantity((grain.listed,), whole=True)} if grain.listed else {}


def _check(sums: CohortSums) -> str:
    places, ranked = int(sums.numbers.get("listed", np.zeros(1)).sum()), sums.number("ranked")
    if places > LISTED * ranked:
        return f"{places} places in {ranked} lists of {LISTED} are impossible"
    return ""


# A one-user node's list follows from its history: no bound makes that right.
LISTS = Statistic(_compute, _quantities, lambda grain: None, _check, reads="ranks")


def _coverage(sums: CohortSums) -> float:
    listed = sums.numbers.get("listed")
    return math.nan if listed is None else float((listed > 0).mean())


def _popularity(sums: CohortSums) -> float:
    listed, met = sums.numbers.get("listed"), sums.numbers.get(ITEM_COUNTS)
    if listed is None or met is None or not listed.sum() or not met.sum():
        return math.nan
    return float((listed * met).sum() / listed.sum() / met.mean())


COVERAGE = Metric(
    f"coverage{LISTED}", f"share of items in any list of {LISTED}", LISTS, _coverage, optional=True
)
POPULARITY = Metric(
    f"popularity{LISTED}",
    "times a listed item was met, over the mean item's",
    LISTS,
    _popularity,
    digits=1,
    optional=True,
)

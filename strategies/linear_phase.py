"""Closed-form linear models after training: two queries, one solution, mixes tried by validation.

Nodes send how often items are met, then sums over their users for the items met most. The server
solves what it would have solved with everybody's data, and asks nodes which mix of linear models
and network ranks the validation items best. The test is by that mix, by the network alone, and by
the best mix without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.linear import LINEAR, SCORERS, LinearPart, Mixture, mix_of, mixes
from mrff.metrics.lists import ITEM_COUNTS
from mrff.metrics.ranking import mix_values
from mrff.sums import CohortSums, Expected, require
from mrff.wire.requests import LINEAR_SUMS
from strategies.queries import Query

CHOSEN_BY = ("ndcg", 10)
ALONE = tuple(name for name in SCORERS if name != "network")
TESTED = ("mixed", "network", "linear", *ALONE)  # what a test ranks by, the mix chosen first


def fit(query: Query, counted: CohortSums, most: int) -> LinearPart:
    """The linear models of all nodes' users together, over the ``most`` items counted most."""
    counts = counted.numbers[ITEM_COUNTS]
    items = most_met(counts, most)
    shapes = {n: s for model in LINEAR.values() for n, s in model.shapes(len(items)).items()}
    named = {"items": items.astype(np.float32)}
    sums = query(LINEAR_SUMS, named, Expected(updates=shapes), check_linear_sums)
    weights = {name: model.solve(sums.updates, len(items)) for name, model in LINEAR.items()}
    found = {name: values.astype(np.float32) for name, values in weights.items()}
    return LinearPart(items, counts[items - 1].astype(np.float32), found)


def most_met(counts: np.ndarray, most: int) -> np.ndarray:
    """(N,) codes of the items met most, those never met left out; equal counts by their code."""
    order = np.argsort(-counts, kind="stable")[:most]
    items: np.ndarray = np.sort(order[counts[order] > 0]) + 1
    return items


def check_linear_sums(sums: CohortSums) -> None:
    """Counts and weights of history items are nothing below 0."""
    for name, values in sums.updates.items():
        require(not (values < 0).any(), f"array {name} holds numbers below 0")


def all_mixes(part: LinearPart) -> Mixture:
    """What validation tries."""
    return Mixture(part, np.array(mixes()))


def chosen_mixes(tried: Mixture, sums: CohortSums) -> Mixture:
    """By a validation of the mixes that were ``tried``: see `TESTED`."""
    values = mix_values(sums, *CHOSEN_BY)
    alone = tried.mixes[:, 0] == 0.0
    best, linear = int(values.argmax()), int(np.where(alone, values, -1.0).argmax())
    each = np.array([mix_of(**{name: 1.0}) for name in ALONE])
    return Mixture(tried.part, np.concatenate([tried.mixes[[best, 0, linear]], each]))


def parts_tested(sums: CohortSums) -> Mapping[str, dict[str, float]]:
    """HR, NDCG and MRR at 10 by each of `TESTED`."""
    measured = {f"{kind}10": mix_values(sums, kind, 10) for kind in ("hr", "ndcg", "mrr")}
    return {
        name: {measure: float(values[place]) for measure, values in measured.items()}
        for place, name in enumerate(TESTED)
    }


def flat(mixture: Mixture) -> list[float]:
    """The mixes as a request holds them."""
    return [float(weight) for weight in mixture.mixes.ravel()]

"""Which experts users go through: loads, how even they are, and how many users changed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrff.metrics.metric import Metric, Numbers, Statistic, ratio
from mrff.sums import CohortSums, Quantity


def route_counts(before: np.ndarray, after: np.ndarray, num_experts: int) -> Numbers:
    """Users by expert (layers, K), and who changed an expert in some layer of those compared.

    Args:
        before: (U, layers), -1 where unknown.
        after: (U, layers).
    """
    known = (before >= 0).all(axis=1)
    users = np.stack([np.bincount(layer, minlength=num_experts) for layer in after.T])
    changed = (before[known] != after[known]).any(axis=1)
    return {"expert_users": users, "changed": int(changed.sum()), "compared": int(known.sum())}


def route_quantities(routes_shape: tuple[int, int]) -> Mapping[str, Quantity]:
    """Of `route_counts`."""
    one = Quantity(whole=True)
    return {"expert_users": Quantity(routes_shape, whole=True), "changed": one, "compared": one}


def check_routes(sums: CohortSums) -> str:
    """What is wrong with a node's route counts; empty: nothing that can be seen."""
    changed, compared, users = (sums.number(name) for name in ("changed", "compared", "users"))
    if not changed <= compared <= users:
        return (
            f"changed {changed}, compared {compared}, users {users} must not decrease in this order"
        )
    if not (sums.numbers["expert_users"].sum(axis=1) == users).all():
        return f"expert_users does not add up to users {users} in every layer"
    return ""


def load_shares(users: ArrayLike) -> NDArray[np.float64]:
    """Share of the users on each expert, by layer: (layers, K) counts to (layers, K) shares."""
    counts = np.asarray(users, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.zeros_like(counts)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def load_entropy(users: ArrayLike) -> float:
    """How evenly users spread over experts: mean over layers of entropy / log K.

    1 is even, 0 is everybody on one expert; nan without users, 1 with a single expert.
    """
    shares = load_shares(users)
    if not shares.any():
        return math.nan
    experts = shares.shape[1]
    if experts == 1:
        return 1.0
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(abs((shares * logs).sum(axis=1).mean()) / math.log(experts))


def churn(sums: CohortSums) -> float:
    """Share of the users with a known earlier route whose expert changed in some layer."""
    return ratio(sums.number("changed"), sums.number("compared"))


def loads_of(sums: CohortSums) -> list[list[float]]:
    """Load shares (layers, K); empty where routes are hidden."""
    if "expert_users" not in sums.numbers:
        return []
    shares: list[list[float]] = load_shares(sums.numbers["expert_users"]).tolist()
    return shares


def _entropy(sums: CohortSums) -> float:
    users = sums.numbers.get("expert_users")
    return math.nan if users is None else load_entropy(users)


ROUTES = Statistic(
    lambda scored, grain: route_counts(scored.before, scored.routes, grain.routes_shape[1]),
    lambda grain: route_quantities(grain.routes_shape),
    lambda grain: None,
    check_routes,
    reads="routes",
)
LOAD_ENTROPY = Metric("load_entropy", "load entropy", ROUTES, _entropy, digits=2)
CHURN = Metric("churn", "churn", ROUTES, churn, digits=2)

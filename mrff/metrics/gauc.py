"""GAUC: the mean of the users' own AUC, over those who have held-out targets of both classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.metrics.metric import Grain, Metric, Numbers, Scored, Statistic, ratio
from mrff.sums import CohortSums, Quantity


def _compute(scored: Scored, grain: Grain) -> Numbers:
    positive = scored.labels > 0.5
    both = positive.any(axis=1) & ~positive.all(axis=1)
    own = [_auc(s, p) for s, p in zip(scored.logits[both], positive[both], strict=True)]
    return {"gauc_sum": float(np.sum(own)), "gauc_users": len(own)}


def _quantities(grain: Grain) -> Mapping[str, Quantity]:
    return {"gauc_sum": Quantity(), "gauc_users": Quantity(whole=True)}


def _check(sums: CohortSums) -> str:
    total, counted, users = (sums.number(n) for n in ("gauc_sum", "gauc_users", "users"))
    if counted <= users and total <= counted * (1 + 1e-6):
        return ""
    return f"gauc_sum {total:g} over gauc_users {counted} of users {users} is impossible"


OWN_AUC = Statistic(_compute, _quantities, lambda grain: None, _check)

GAUC = Metric(
    "gauc",
    "GAUC",
    OWN_AUC,
    lambda s: ratio(s.number("gauc_sum"), s.number("gauc_users")),
    "higher",
    brief=True,
)


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; ties count one half."""
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))

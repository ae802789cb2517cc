"""How many users and targets an evaluation counted: part of every evaluation, no metric."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.metrics.metric import Grain, Numbers, Scored, Statistic
from mrff.sums import CohortSums, Quantity


def _compute(scored: Scored, grain: Grain) -> Numbers:
    return {"users": len(scored.logits), "targets": scored.logits.size, "skipped": 0}


def _quantities(grain: Grain) -> Mapping[str, Quantity]:
    return dict.fromkeys(("users", "targets", "skipped"), Quantity(whole=True))


PEOPLE = Statistic(_compute, _quantities, lambda grain: None)  # how many there are is public


def skipped(users: int) -> CohortSums:
    """The sum over users too short for the split."""
    return CohortSums({}, {"skipped": np.array(users)})

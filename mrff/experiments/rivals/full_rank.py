"""Full ranks of users who are scored in one process: what `mrff.metrics.ranking` says of a run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from client_app.learners.ranking import ranks_of
from mrff.data.dataset import Dataset
from mrff.metrics import measures_of_ranks
from mrff.metrics.metric import Ranks
from mrff.wire.requests import Part


def measured(
    dataset: Dataset, users: np.ndarray, scores: Iterable[tuple[np.ndarray, Tensor]], part: Part
) -> dict[str, float]:
    """HR, NDCG and MRR at 10 of the last item of ``users`` (U,), among all that they had not met.

    Args:
        scores: rows of ``users`` with scores (B, items) of items 1, 2, ...
    """
    parts, order = list[Ranks](), list[np.ndarray]()
    for rows, values in scores:
        parts.append(ranks_of(values.unsqueeze(1), dataset, users[rows], part))
        order.append(rows)
    found = measures_of_ranks(Ranks.joined(parts, np.argsort(np.concatenate(order))))
    return {name: found[name] for name in ("hr10", "ndcg10", "mrr10")}

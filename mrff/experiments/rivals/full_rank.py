"""Full ranks of users who are scored in one process: what `mrff.metrics.ranking` says of a run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from client_app.learners.ranking import ranks_of
from mrff.data.dataset import Dataset
from mrff.metrics.ranking import LENGTHS, expected_gains
from mrff.wire.requests import Part

PLACE = LENGTHS.index(10)


def measured(
    dataset: Dataset, users: np.ndarray, scores: Iterable[tuple[np.ndarray, Tensor]], part: Part
) -> dict[str, float]:
    """HR, NDCG and MRR at 10 of the last item of ``users`` (U,), among all that they had not met.

    Args:
        scores: rows of ``users`` with scores (B, items) of items 1, 2, ...
    """
    gains: dict[str, list[np.ndarray]] = {"hr": [], "ndcg": [], "mrr": []}
    for rows, values in scores:
        ranks = ranks_of(values.unsqueeze(1), dataset, users[rows], part)
        for kind, found in gains.items():
            found.append(expected_gains(ranks, kind)[:, 0, 0, PLACE])
    return {f"{kind}10": float(np.concatenate(found).mean()) for kind, found in gains.items()}

"""What lists of popular items reach on a split: the floor of data without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from client_app.learners.ranking import history_of, ranks_of
from mrff.data.dataset import Dataset
from mrff.data.floors import split_rows
from mrff.data.windows import train_sizes, training_users
from mrff.metrics import measures_of_ranks
from mrff.metrics.metric import Ranks
from mrff.wire.requests import Part

SCORES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class ListFloor:
    """Measures at 10 over the held-out items, each ranked as a run ranks it."""

    hr10: float
    ndcg10: float
    mrr10: float
    users: int
    targets: int
    candidates: float  # on average


def popularity_floor(dataset: Dataset, *, holdout: int, part: Part) -> ListFloor:
    """Ranks by how often items are in everybody's training rows, pooled.

    Raises:
        DataError: no user is long enough for the split.
    """
    users = split_rows(dataset, holdout=holdout, part=part).users
    everybody = training_users(dataset)
    ends = dataset.offsets[everybody] + train_sizes(dataset, everybody, holdout=holdout)
    items, _ = history_of(dataset, everybody, ends)
    counts = np.bincount(items, minlength=dataset.schema.num_items + 1)[1:]
    scores = torch.from_numpy(counts.astype(np.float32))
    at_once = max(1, SCORES_AT_ONCE // (holdout * len(counts)))
    found = [
        ranks_of(scores.expand(len(some), holdout, -1), dataset, some, part)
        for some in np.split(users, np.arange(at_once, len(users), at_once))
    ]
    ranks = Ranks.joined(found, np.arange(len(users)))
    m = measures_of_ranks(ranks)
    targets = ranks.better[..., 0].size
    return ListFloor(m["hr10"], m["ndcg10"], m["mrr10"], len(users), targets, m["candidates"])

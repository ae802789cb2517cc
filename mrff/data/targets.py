"""Data whose rows are impressions: the split by what a user liked, not by what they were shown."""

from __future__ import annotations

import numpy as np

from mrff.data.dataset import Dataset


def ending_with_targets(dataset: Dataset, *, holdout: int) -> Dataset:
    """The same users and catalogue, held-out rows being the last liked ones of every user.

    With ``k = holdout``, rows after the last liked one are left out, and of those among the last
    ``2 k`` liked ones the others. So a user's last k rows are the test, the k before the
    validation, and all before is training, liked or not. Users with fewer than ``2 k`` liked rows
    have no row left: they are too short for the split.
    """
    liked = dataset.labels > 0
    owner = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    before = np.concatenate([[0], np.cumsum(liked)])
    to_come = before[dataset.offsets[owner + 1]] - before[:-1]  # liked rows from here on
    enough = before[dataset.offsets[owner + 1]] - before[dataset.offsets[owner]] >= 2 * holdout
    kept = np.flatnonzero(enough & (liked | (to_come >= 2 * holdout)))
    sizes = np.bincount(owner[kept], minlength=dataset.num_users)
    return dataset.with_rows(kept, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

"""Data whose rows are impressions: the split by what a user liked, not by what they were shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrff.data.dataset import Dataset
from mrff.data.windows import is_chosen


def ending_with_targets(dataset: Dataset, *, holdout: int, share: float = 1.0) -> Dataset:
    """The same users and catalogue, held-out rows being the last liked ones of every user.

    With ``k = holdout``, rows after the last liked one are left out, and of those among the last
    ``2 k`` liked ones the others. So a user's last k rows are the test, the k before the
    validation, and all before is training, liked or not. Users with fewer than ``2 k`` liked rows
    are too short for the split: they train on all rows up to the last liked one. Who liked nothing
    has no row left.

    Args:
        share: of users whose rows are held out at all, see `mrff.data.windows.is_chosen`.
    """
    liked = dataset.labels > 0
    owner = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    before = np.concatenate([[0], np.cumsum(liked)])
    to_come = before[dataset.offsets[owner + 1]] - before[:-1]  # liked rows from here on
    likes = before[dataset.offsets[1:]] - before[dataset.offsets[:-1]]
    splits = (likes >= 2 * holdout) & is_chosen(dataset.user_keys, share)
    kept = np.flatnonzero(np.where(splits[owner], liked | (to_come >= 2 * holdout), to_come >= 1))
    sizes = np.bincount(owner[kept], minlength=dataset.num_users)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return replace(dataset.with_rows(kept, offsets), only_train=~splits)

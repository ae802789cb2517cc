"""Which rows of users item statistics were summed over, and which come before their windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.data.windows import (
    NO_FEEDBACK,
    Records,
    first_of_time,
    rows_before,
    train_sizes,
)

MOST_PAST = 2048  # rows before a user's first window that inputs read
Fields = dict[str, tuple[Tensor, ...]]  # of a batch


def counted_records(
    records: Records, dataset: Dataset, users: np.ndarray, config: RunConfig
) -> Fields:
    """Of records; nothing where the network reads no statistics."""
    if not config.reads_item_statistics:
        return {}
    ends = counted_until(dataset, users, config)
    targets = records.real & (records.rows < ends[:, None, None])
    history = np.zeros_like(targets)
    history[..., 1:] = targets[..., :-1] & records.real[..., 1:]
    return {
        "counted": (torch.from_numpy(history), torch.from_numpy(targets)),
        **_past(dataset, users, records.first, ends),
    }


def counted_histories(
    dataset: Dataset, users: np.ndarray, rows: np.ndarray, config: RunConfig
) -> Fields:
    """Of whole histories ``rows`` (U, n), of which a window shows a start and then every one."""
    if not config.reads_item_statistics:
        return {}
    ends = counted_until(dataset, users, config)
    history = np.pad(rows < ends[:, None], ((0, 0), (1, 0)))[:, None]
    first = rows[:, 0] if rows.shape[1] else dataset.offsets[users + 1]
    counted = torch.from_numpy(history)
    return {
        "counted": (counted, torch.zeros_like(counted)),
        **_past(dataset, users, first, ends),
    }


def counted_until(dataset: Dataset, users: np.ndarray, config: RunConfig) -> np.ndarray:
    """(U,) the first row of each user that is in no sum of labels.

    Rows at the time of the first held-out one are in none where their labels are not known yet, nor
    are those of users who do not train.
    """
    begin: np.ndarray = dataset.offsets[users]
    end = begin + train_sizes(dataset, users, holdout=config.data.holdout)
    held_out = end < dataset.offsets[users + 1]
    if not dataset.knows_same_time and held_out.any():
        end[held_out] = first_of_time(dataset)[end[held_out]]
    return end if dataset.trains is None else np.where(dataset.trains[users], end, begin)


def _past(dataset: Dataset, users: np.ndarray, first: np.ndarray, ends: np.ndarray) -> Fields:
    rows = rows_before(dataset, users, first, MOST_PAST)
    exists = rows >= 0
    items = np.where(exists, dataset.items[rows], 0).astype(np.int64)
    feedback = np.where(exists, dataset.labels[rows].astype(np.int64) + 1, NO_FEEDBACK)
    counted = exists & (rows < ends[:, None])
    return {"past": tuple(map(torch.from_numpy, (items, feedback, counted)))}

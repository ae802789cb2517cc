"""Which rows of users item statistics were summed over, and which come before their windows.

In private modes a row has the weight with which its user was summed, instead of 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrff.config import RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.data.windows import (
    NO_FEEDBACK,
    Records,
    first_of_time,
    rows_before,
    train_sizes,
)
from mrff.privacy.mechanisms import MECHANISMS

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
    fields = {
        "counted": (torch.from_numpy(history), torch.from_numpy(targets)),
        **_past(dataset, users, records.first, ends),
    }
    return _weighted(fields, dataset, users, config)


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
    fields = {
        "counted": (counted, torch.zeros_like(counted)),
        **_past(dataset, users, first, ends),
    }
    return _weighted(fields, dataset, users, config)


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


def weights_of(dataset: Dataset, users: np.ndarray, config: RunConfig) -> np.ndarray | None:
    """(U,) what each row of a user counts for; None: 1, as nothing is noised."""
    items = MECHANISMS[config.privacy.mode].items(config)
    if items is None:
        return None
    begin, ends = dataset.offsets[users], counted_until(dataset, users, config)
    rows, owners = rows_between(begin, ends), np.repeat(np.arange(len(users)), ends - begin)
    codes = dataset.schema.num_items + 1
    pairs, times = np.unique(owners * codes + dataset.items[rows], return_counts=True)
    squares = np.zeros(len(users))
    np.add.at(squares, pairs // codes, np.square(times, dtype=np.float64))
    return items.weights(squares)


def _weighted(fields: Fields, dataset: Dataset, users: np.ndarray, config: RunConfig) -> Fields:
    """The fields with weights for truths."""
    weights = weights_of(dataset, users, config)
    if weights is None:
        return fields
    of_user = torch.from_numpy(weights.astype(np.float32))
    counted = tuple(field * of_user[:, None, None] for field in fields["counted"])
    items, feedback, before = fields["past"]
    return {"counted": counted, "past": (items, feedback, before * of_user[:, None])}


def _past(dataset: Dataset, users: np.ndarray, first: np.ndarray, ends: np.ndarray) -> Fields:
    rows = rows_before(dataset, users, first, MOST_PAST)
    exists = rows >= 0
    items = np.where(exists, dataset.items[rows], 0).astype(np.int64)
    feedback = np.where(exists, dataset.labels[rows].astype(np.int64) + 1, NO_FEEDBACK)
    counted = exists & (rows < ends[:, None])
    return {"past": tuple(map(torch.from_numpy, (items, feedback, counted)))}

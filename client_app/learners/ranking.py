"""Ranks users' held-out items among all items that they had not met."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mrff.data.dataset import Dataset
from mrff.metrics.metric import Ranks
from mrff.wire.requests import Part
from mrff_model.network import Batch


def held_out_places(batch: Batch, holdout: int) -> Tensor:
    """(B, k) positions of the only window whose targets are held out: the last k."""
    return batch.real[:, 0].sum(-1, keepdim=True) - holdout + torch.arange(holdout)


def ranks_of(scores: Tensor, dataset: Dataset, users: np.ndarray, part: Part) -> Ranks:
    """The ranks of the held-out items of ``users`` (B,).

    Each is ranked as its history was: items met before it are no candidates, later ones are. A
    score that is not a number is the worst for the held-out item and the best for any other, so
    that a network that has diverged ranks nothing well.

    Args:
        scores: (B, k, items) of items 1, 2, ... at the held-out positions, in time order; changed.
    """
    holdout = scores.shape[1]
    ends = dataset.offsets[users + 1] - (holdout if part == "valid" else 0)
    better, ties, candidates = (np.zeros((len(users), holdout), np.int64) for _ in range(3))
    rows = torch.arange(len(users), device=scores.device)
    for number in range(holdout):
        now, at = scores[:, number], ends - holdout + number
        target = torch.from_numpy(dataset.items[at].astype(np.int64) - 1).to(scores.device)
        own = now[rows, target].nan_to_num(nan=-math.inf)
        met = _met(dataset, users, at)
        now.nan_to_num_(nan=math.inf)[met[0], met[1]] = -math.inf
        is_candidate = torch.ones_like(now, dtype=torch.bool)
        is_candidate[met[0], met[1]] = False
        is_candidate[rows, target] = True
        above = (now > own[:, None]) & is_candidate
        same = (now == own[:, None]) & is_candidate
        same[rows, target] = above[rows, target] = False
        for found, counted in ((better, above), (ties, same), (candidates, is_candidate)):
            found[:, number] = counted.sum(-1).cpu().numpy()
    return Ranks(better, ties, candidates)


def _met(dataset: Dataset, users: np.ndarray, until: np.ndarray) -> tuple[Tensor, Tensor]:
    """Rows and columns of the items that users (B,) met before the interactions ``until`` (B,)."""
    begin = dataset.offsets[users]
    lengths = until - begin
    rows = np.repeat(np.arange(len(users)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = dataset.items[np.repeat(begin, lengths) + within].astype(np.int64)
    return torch.from_numpy(rows), torch.from_numpy(items - 1)

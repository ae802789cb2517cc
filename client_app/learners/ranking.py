"""Ranks users' held-out items among all items that they had not met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mrff.config import RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.linear import LinearPart, Mixture
from mrff.metrics.metric import Ranks
from mrff.wire.requests import Part
from mrff_model.batch import Batch

SMALLEST_DEVIATION = 1e-9  # of scores that are all the same


def held_out_places(batch: Batch, holdout: int) -> Tensor:
    """(B, k) positions of the only window whose targets are held out: the last k."""
    return batch.real[:, 0].sum(-1, keepdim=True) - holdout + torch.arange(holdout)


def asked_for(ranks: Ranks, labels: np.ndarray, config: RunConfig) -> Ranks:
    """The ranks of the answers that count, by the labels (B, k) of the held-out interactions."""
    return replace(ranks, counts=labels > 0.5) if config.data.targets == "liked" else ranks


def ranks_of(
    scores: Tensor,
    dataset: Dataset,
    users: np.ndarray,
    part: Part,
    mixture: Mixture | None = None,
) -> Ranks:
    """The ranks of the held-out items of ``users`` (B,), by the network or by mixes with it.

    Each is ranked as its history was: items met before it are no candidates, later ones are. One
    that was itself met before is ranked among all items.

    Args:
        scores: (B, k, items) of items 1, 2, ... at the held-out positions, in time order.
        mixture: what to rank by; None: the scores alone.
    """
    holdout = scores.shape[1]
    ends = dataset.offsets[users + 1] - (holdout if part == "valid" else 0)
    ranks = Ranks.nothing_yet(len(users), holdout, 1 if mixture is None else len(mixture.mixes))
    rows = torch.arange(len(users), device=scores.device)
    for number in range(holdout):
        at = ends - holdout + number
        target = torch.from_numpy(dataset.items[at].astype(np.int64) - 1).to(scores.device)
        is_candidate = torch.ones_like(scores[:, 0], dtype=torch.bool)
        met = _met(dataset, users, at)
        is_candidate[met[0], met[1]] = False
        is_candidate[~is_candidate[rows, target]] = True
        ranks.apart[:, number] = ~dataset.same_time[at]
        ranks.candidates[:, number] = is_candidate.sum(-1).cpu().numpy()
        by: Iterable[Tensor] = [scores[:, number]]
        if mixture is not None:
            begin = dataset.offsets[users]
            offsets = np.concatenate([[0], np.cumsum(at - begin)])
            history = dataset.items[rows_between(begin, at)]
            linear = linear_scores(mixture.part, history, offsets, scores.shape[-1])
            by = mixed([scores[:, number], *linear], is_candidate, mixture)
        for mix, values in enumerate(by):
            better, ties = _counted(values, rows, target, is_candidate)
            ranks.better[:, number, mix] = better.cpu().numpy()
            ranks.ties[:, number, mix] = ties.cpu().numpy()
    return ranks


def _counted(
    values: Tensor, rows: Tensor, target: Tensor, is_candidate: Tensor
) -> tuple[Tensor, Tensor]:
    """(B,) candidates above the targets (B,) by ``values`` (B, items), and level with them.

    A score that is not a number is the worst for the held-out item and the best for any other, so
    that a network that has diverged ranks nothing well.
    """
    own = values[rows, target].nan_to_num(nan=-math.inf).unsqueeze(-1)
    others = values.nan_to_num(nan=math.inf)
    above, same = (others > own) & is_candidate, (others == own) & is_candidate
    same[rows, target] = above[rows, target] = False
    return above.sum(-1), same.sum(-1)


def linear_scores(
    part: LinearPart, items: np.ndarray, offsets: np.ndarray, num_items: int
) -> list[Tensor]:
    """(B, items) by every linear model after whole histories, 0 of items that they do not know.

    Args:
        items, offsets: (n,) codes of B users by offsets (B + 1,).
    """
    users = np.arange(len(offsets) - 1)
    known = part.scores(part.sequences(items, offsets), users, offsets[1:])
    scores = []
    for values in known.values():
        whole = np.zeros((len(users), num_items), dtype=np.float32)
        whole[:, part.columns] = values
        scores.append(torch.from_numpy(whole))
    return scores


def mixed(scores: list[Tensor], is_candidate: Tensor, mixture: Mixture) -> Iterator[Tensor]:
    """(B, items) by every mix of scores, each scaled over a user's candidates."""
    scaled = []
    number = is_candidate.sum(-1, keepdim=True)
    for values in scores:
        values = values.to(is_candidate.device)
        mean = (values * is_candidate).sum(-1, keepdim=True) / number
        apart = (values - mean) * is_candidate
        deviation = (apart.square().sum(-1, keepdim=True) / number).sqrt()
        scaled.append(apart / deviation.clamp(min=SMALLEST_DEVIATION))
    for mix in mixture.mixes:
        parts = [weight * z for weight, z in zip(mix.tolist(), scaled, strict=True) if weight]
        yield torch.stack(parts).sum(0)


def _met(dataset: Dataset, users: np.ndarray, until: np.ndarray) -> tuple[Tensor, Tensor]:
    """Rows and columns of the items that users (B,) met before the interactions ``until`` (B,)."""
    begin = dataset.offsets[users]
    rows = np.repeat(np.arange(len(users)), until - begin)
    items = dataset.items[rows_between(begin, until)].astype(np.int64)
    return torch.from_numpy(rows), torch.from_numpy(items - 1)

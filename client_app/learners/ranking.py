"""Ranks users' held-out items among all items that they had not met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrff.config import RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.linear import LinearPart, Mixture
from mrff.metrics.metric import LISTED, Ranks
from mrff.sums.sampling import user_keys
from mrff.wire.requests import Part
from mrff_model.batch import Batch

SMALLEST_DEVIATION = 1e-9  # of scores that are all the same


def held_out_places(batch: Batch, holdout: int) -> Tensor:
    """(B, k) positions of the only window whose targets are held out: the last k."""
    return batch.real[:, 0].sum(-1, keepdim=True) - holdout + torch.arange(holdout)


@dataclass(frozen=True)
class Ranking:
    """How held-out items are ranked.

    Args:
        mixture: linear models to rank by beside the network's scores; None: those alone.
        liked_only: answers count only where they were liked.
        drawn: how many items stand beside the answer; None: all that there are.
        seed: of the draw.
        lists: whether users' best items are noted.
    """

    mixture: Mixture | None = None
    liked_only: bool = False
    drawn: int | None = None
    seed: int = 0
    lists: bool = False

    @classmethod
    def of(cls, config: RunConfig, part: Part, mixture: Mixture | None) -> Ranking:
        """A run's own; lists are part of its test."""
        return cls(
            mixture,
            liked_only=config.data.targets == "liked",
            drawn=config.evaluation.ranking_candidates,
            seed=config.training.seed,
            lists=part == "test",
        )

    @property
    def mixes(self) -> int:
        """Of scores."""
        return 1 if self.mixture is None else len(self.mixture.mixes)


EVERYTHING = Ranking()


def ranks_of(
    scores: Tensor,
    dataset: Dataset,
    users: np.ndarray,
    part: Part,
    ranking: Ranking = EVERYTHING,
) -> Ranks:
    """The ranks of the held-out items of ``users`` (B,), by the network or by mixes with it.

    Each is ranked as its history was: items met before it are no candidates, later ones are. One
    that was itself met before is ranked among all items, and so is every one where repeats mean
    something: who is asked must not be told whether the answer is new.

    Args:
        scores: (B, k, items) of items 1, 2, ... at the held-out positions, in time order.
    """
    holdout = scores.shape[1]
    ends = dataset.offsets[users + 1] - (holdout if part == "valid" else 0)
    ranks = Ranks.nothing_yet(len(users), holdout, ranking.mixes)
    rows = torch.arange(len(users), device=scores.device)
    for number in range(holdout):
        at = ends - holdout + number
        target = torch.from_numpy(dataset.items[at].astype(np.int64) - 1).to(scores.device)
        is_candidate = torch.ones_like(scores[:, 0], dtype=torch.bool)
        met = _met(dataset, users, at)
        is_candidate[met[0], met[1]] = False
        is_repeated = ~is_candidate[rows, target]
        is_candidate[is_repeated | dataset.schema.repeats] = True
        among = is_candidate
        if ranking.drawn is not None:
            keys = user_keys(ranking.seed, number, dataset.user_keys[users], f"candidates {part}")
            among = _drawn(is_candidate, target, keys, ranking.drawn)
        ranks.apart[:, number] = ~dataset.same_time[at]
        ranks.met[:, number] = is_repeated.cpu().numpy()
        ranks.candidates[:, number] = among.sum(-1).cpu().numpy()
        if ranking.liked_only:
            ranks.counts[:, number] = dataset.labels[at] > 0
        by: Iterable[Tensor] = [scores[:, number]]
        if ranking.mixture is not None:
            history = history_of(dataset, users, at)
            linear = linear_scores(ranking.mixture.part, *history, scores.shape[-1])
            by = mixed([scores[:, number], *linear], is_candidate, ranking.mixture)
        for mix, values in enumerate(by):
            better, ties = _counted(values, rows, target, among)
            ranks.better[:, number, mix] = better.cpu().numpy()
            ranks.ties[:, number, mix] = ties.cpu().numpy()
            if ranking.lists and not mix:
                best = _best(values, is_candidate)
                ranks.listed[:, number, : best.shape[1]] = best
    return ranks


def history_of(
    dataset: Dataset, users: np.ndarray, until: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Items (n,) of users (B,) before the interactions ``until`` (B,), and offsets (B + 1,)."""
    begin = dataset.offsets[users]
    offsets = np.concatenate([[0], np.cumsum(until - begin)]).astype(np.int64)
    return dataset.items[rows_between(begin, until)].astype(np.int64), offsets


def _drawn(is_candidate: Tensor, target: Tensor, keys: np.ndarray, number: int) -> Tensor:
    """(B, items) the targets (B,) and so many other candidates, without replacement by the keys."""
    drawn = torch.zeros_like(is_candidate)
    for row, key in enumerate(keys):
        others = is_candidate[row].clone()
        others[target[row]] = False
        places = others.nonzero()[:, 0].cpu().numpy()
        random = np.random.default_rng(int(key))
        chosen = random.choice(places, min(number, len(places)), replace=False)
        drawn[row, torch.from_numpy(chosen).to(drawn.device)] = True
        drawn[row, target[row]] = True
    return drawn


def _best(values: Tensor, is_candidate: Tensor) -> np.ndarray:
    """(B, at most LISTED) codes of the best candidates, best first; 0 where there are no more."""
    worst = values.nan_to_num(nan=-math.inf).masked_fill(~is_candidate, -math.inf)
    best = worst.topk(min(LISTED, values.shape[-1]), dim=-1)
    codes = torch.where(is_candidate.gather(-1, best.indices), best.indices + 1, 0)
    return codes.cpu().numpy()


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

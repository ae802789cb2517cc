"""Ranks users' held-out items among all items that they had not met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

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
Test = Callable[[Tensor, Tensor], Tensor]  # of values against a target's


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
    for number in range(holdout):
        at = ends - holdout + number
        target = torch.from_numpy(dataset.items[at].astype(np.int64) - 1).to(scores.device)
        left, is_repeated = _left_out(dataset, users, at)
        among = Among(scores[:, number], target, left)
        if ranking.drawn is not None:
            keys = user_keys(ranking.seed, number, dataset.user_keys[users], f"candidates {part}")
            among = replace(among, drawn=_drawn(among.mask(), target, keys, ranking.drawn))
        ranks.apart[:, number] = ~dataset.same_time[at]
        ranks.met[:, number] = is_repeated
        ranks.candidates[:, number] = among.number()
        if ranking.liked_only:
            ranks.counts[:, number] = dataset.labels[at] > 0
        by: Iterable[Tensor] = [scores[:, number]]
        if ranking.mixture is not None:
            history = history_of(dataset, users, at)
            linear = linear_scores(ranking.mixture.part, *history, scores.shape[-1])
            by = mixed([scores[:, number], *linear], among.mask(), ranking.mixture)
        for mix, values in enumerate(by):
            better, ties = among.counted(values)
            ranks.better[:, number, mix] = better
            ranks.ties[:, number, mix] = ties
            if ranking.lists and not mix:
                best = _best(values, among.mask())
                ranks.listed[:, number, : best.shape[1]] = best
    return ranks


@dataclass(frozen=True)
class Among:
    """The items that targets are ranked among: all but a few, so that those few are subtracted.

    Args:
        like: scores (B, items).
        target: (B,) places of the targets.
        left: rows and columns of the items left out, each once, no target among them; in the
            host's memory.
        drawn: (B, items) the only ones that count; None: all the others do.
    """

    like: Tensor
    target: Tensor
    left: tuple[Tensor, Tensor]
    drawn: Tensor | None = None

    def mask(self) -> Tensor:
        """(B, items), all but those left out."""
        mask = torch.ones_like(self.like, dtype=torch.bool)
        mask[self.left] = False
        return mask

    def number(self) -> np.ndarray:
        """(B,) how many candidates there are, the target among them."""
        if self.drawn is not None:
            return _count(self.drawn)
        rows, items = self.like.shape
        numbers: np.ndarray = items - np.bincount(self.left[0].numpy(), minlength=rows)
        return numbers

    def counted(self, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(B,) candidates above the targets by ``values`` (B, items), and level with them.

        A score that is not a number is the worst for the held-out item and the best for any other,
        so that a network that has diverged ranks nothing well.
        """
        targets = values.gather(-1, self.target.unsqueeze(-1))
        above, level = (self._number(values, targets, test) for test in (_is_above, torch.eq))
        return above, level

    def _number(self, values: Tensor, targets: Tensor, test: Test) -> np.ndarray:
        """(B,) candidates other than the target whose value passes against the target's (B, 1)."""
        own = targets.nan_to_num(nan=-math.inf)
        itself = _numpy(test(targets, own)[:, 0])
        if self.drawn is not None:
            return _count(test(values, own) & self.drawn) - itself
        passed = _numpy(test(values[self.left], own[self.left[0], 0]))
        out = np.bincount(self.left[0].numpy()[passed], minlength=len(values))
        return _passing(values, own, test) - itself - out


def _is_above(values: Tensor, own: Tensor) -> Tensor:
    return ~(values <= own)  # what is not a number is


def _passing(values: Tensor, own: Tensor, test: Test) -> np.ndarray:
    """(B,) of values (B, n), whatever they are of; row by row, so that flags stay in the cache."""
    if values.device.type != "cpu":
        return _count(test(values, own))
    flags = (test(row, one).numpy() for row, one in zip(values, own, strict=True))
    return np.array([np.count_nonzero(row) for row in flags])


def _count(flags: Tensor) -> np.ndarray:
    """(...) of flags (..., n); PyTorch's own sum takes several times as long on a processor."""
    if flags.device.type != "cpu":
        return _numpy(flags.sum(-1))
    counts: np.ndarray = np.asarray(np.count_nonzero(flags.numpy(), axis=-1))
    return counts


def _numpy(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy()
    return array


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


def _left_out(
    dataset: Dataset, users: np.ndarray, until: np.ndarray
) -> tuple[tuple[Tensor, Tensor], np.ndarray]:
    """What users (B,) met before the interactions ``until`` (B,), and who met their item before.

    Rows and columns, each pair once; nothing of users for whom repeats count.
    """
    begin, width = dataset.offsets[users], dataset.schema.num_items
    rows = np.repeat(np.arange(len(users)), until - begin)
    items = dataset.items[rows_between(begin, until)].astype(np.int64) - 1
    is_repeated = np.zeros(len(users), dtype=bool)
    is_repeated[rows[items == dataset.items[until].astype(np.int64)[rows] - 1]] = True
    if dataset.schema.repeats:
        rows, items = rows[:0], items[:0]
    kept = ~is_repeated[rows]
    pairs = np.unique(rows[kept] * width + items[kept])
    return (torch.from_numpy(pairs // width), torch.from_numpy(pairs % width)), is_repeated

"""What users of rivals that factorise learn from: their items, and others that they have not met.

Negatives are drawn uniformly, with replacement, from the whole catalogue but the items of the
user's *training* part: a held-out item is one as often as any other. The papers draw outside all
of a user's items, so that of everything the user is not known to like the answer alone is never a
negative. ``met="all"`` does so to reproduce their figures, and for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mrff.config import RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.data.windows import teaches, train_sizes
from mrff.sums.sampling import user_keys, words

Met = Literal["training", "all"]


@dataclass(frozen=True)
class Samples:
    """Items and negatives of B users, S at most, in the order they are learned; padded right."""

    items: np.ndarray  # (B, S) int64 codes; 0 at padding
    labels: np.ndarray  # (B, S) float32, 1 of items met
    real: np.ndarray  # (B, S) bool

    def shuffled(self, keys: np.ndarray) -> Samples:
        """In another order, by the users' keys (B,)."""
        order = words(keys, self.items.shape[1])
        order[~self.real] = np.iinfo(np.uint64).max
        at = np.argsort(order, axis=1, kind="stable")
        return Samples(
            *(np.take_along_axis(a, at, 1) for a in (self.items, self.labels, self.real))
        )


def samples_of(
    dataset: Dataset, users: np.ndarray, config: RunConfig, round_number: int, met: Met = "training"
) -> Samples:
    """What users (B,) learn from in a round: every item of their training part, and negatives.

    Where only liked items are to be predicted, the others of the training part are neither. A user
    who has met every item has no negatives.

    Args:
        met: whose items are no negatives; see the module.
    """
    begin, last = dataset.offsets[users], dataset.offsets[users + 1]
    sizes = train_sizes(dataset, users, holdout=config.data.holdout)
    rows, owners = _rows(begin, begin + sizes)
    known = _rows(begin, last) if met == "all" else (rows, owners)
    if config.data.targets == "liked":
        liked = dataset.labels[rows] > 0
        liked &= teaches(dataset, users[owners], rows, holdout=config.data.holdout)
        rows, owners = rows[liked], owners[liked]
    positives = np.bincount(owners, minlength=len(users))
    keys = user_keys(config.training.seed, round_number, dataset.user_keys[users], "negatives")
    number, size = positives * config.training.negatives, dataset.schema.num_items
    drawn, drawers = _drawn(keys, number, (dataset.items[known[0]], known[1]), size)
    items = np.concatenate([dataset.items[rows].astype(np.int64), drawn])
    labels = np.repeat([1.0, 0.0], [len(rows), len(drawn)]).astype(np.float32)
    return _padded(items, labels, np.concatenate([owners, drawers]), len(users))


def _rows(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interactions of users (B,), and which user each is of."""
    return rows_between(begin, end), np.repeat(np.arange(len(begin)), end - begin)


def _drawn(
    keys: np.ndarray, number: np.ndarray, met: tuple[np.ndarray, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """``number`` (B,) items for each user, all but those met as likely as each other.

    The r-th of the items not met is ``r + 1`` plus the number of met ones before it: those with at
    most r others before them.

    Args:
        met: codes, and whose each is.
        size: of the catalogue.
    """
    pairs = np.unique(met[1] * size + met[0].astype(np.int64) - 1)
    owners = pairs // size
    first = np.searchsorted(owners, np.arange(len(keys)))
    others_before = pairs % size - (np.arange(len(pairs)) - first[owners])
    left = size - np.bincount(owners, minlength=len(keys))
    number = np.where(left > 0, number, 0)
    drawers = np.repeat(np.arange(len(keys)), number)
    every = words(keys, int(number.max(initial=0)))
    drawn = every[np.arange(every.shape[1]) < number[:, None]] % left[drawers].astype(np.uint64)
    places = drawn.astype(np.int64)
    # Both stay below the size of the catalogue: one search finds all users' places.
    wide = size + 1
    found = np.searchsorted(owners * wide + others_before, drawers * wide + places, side="right")
    return places + 1 + found - first[drawers], drawers


def _padded(items: np.ndarray, labels: np.ndarray, owners: np.ndarray, users: int) -> Samples:
    order = np.argsort(owners, kind="stable")
    sizes = np.bincount(owners, minlength=users)
    real = np.arange(sizes.max(initial=0)) < sizes[:, None]
    padded_items, padded_labels = np.zeros(real.shape, np.int64), np.zeros(real.shape, np.float32)
    padded_items[real], padded_labels[real] = items[order], labels[order]
    return Samples(padded_items, padded_labels, real)

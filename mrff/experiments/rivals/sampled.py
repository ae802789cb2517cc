"""The papers' evaluation: a held-out item among 99 that its user never met. CONTAMINATED.

It compares nothing (Krichene and Rendle, "On sampled metrics for item recommendation", KDD 2020);
with negatives of training that spare held-out items it measures that they were spared. It is here
for one purpose: to show that a rival is run as its authors run it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mrff.data.dataset import Dataset

CANDIDATES, LENGTH = 100, 10
PARTS = ("valid", "test")


@dataclass(frozen=True)
class Candidates:
    """For U users and each of `PARTS`, the answer and 99 others; the parts share none of those."""

    items: np.ndarray  # (U, 2, 100) codes, the answer first

    @classmethod
    def drawn(cls, dataset: Dataset, users: np.ndarray, seed: int) -> Candidates:
        """The last two items of ``users`` (U,) are the answers.

        Raises:
            ValueError: a user has met so many items that too few are left.
        """
        items = np.zeros((len(users), len(PARTS), CANDIDATES), dtype=np.int64)
        others = len(PARTS) * (CANDIDATES - 1)
        for row, user in enumerate(users):
            met = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]]
            unmet = np.setdiff1d(np.arange(1, dataset.schema.num_items + 1), met)
            if len(unmet) < others:
                raise ValueError(
                    f"user {dataset.user_ids[user]} has not met {len(unmet)} items, the papers' "
                    f"protocol needs {others}; use a larger catalogue"
                )
            random = np.random.default_rng([seed, int(dataset.user_keys[user])])
            drawn = random.choice(unmet, others, replace=False)
            items[row, :, 0] = met[-2:]
            items[row, :, 1:] = drawn.reshape(len(PARTS), -1)
        return cls(items)

    def measured(
        self, scores: Iterable[tuple[np.ndarray, Tensor]]
    ) -> dict[str, tuple[float, float]]:
        """HR@10 and NDCG@10 by part; a tie with a candidate counts as half a rank.

        Args:
            scores: rows of users with scores (B, items) of items 1, 2, ...
        """
        ranks = np.zeros(self.items.shape[:2])  # of the answer, from 0
        for rows, values in scores:
            found = values.cpu().numpy()[np.arange(len(rows))[:, None, None], self.items[rows] - 1]
            others, own = found[..., 1:], found[..., :1]
            ranks[rows] = (others > own).sum(-1) + 0.5 * (others == own).sum(-1)
        hits, gains = ranks < LENGTH, 1.0 / np.log2(ranks + 2.0)
        return {
            part: (float(hits[:, n].mean()), float((hits[:, n] * gains[:, n]).mean()))
            for n, part in enumerate(PARTS)
        }

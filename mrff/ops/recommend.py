"""Ranks the items a user has not seen, and says which history items moved a score.

The explanation is leave-one-out: the history is scored again without one of its items, and what
the logit loses is that item's part. Nothing is approximated, the other items, the gate's choice
of groups included, react as they would have. Parts therefore need not add up to the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mrff.data.errors import DataError
from mrff.ops.nodes import UserModel

CANDIDATES = 65536  # scored at once
POSITIONS = 65536  # of histories scored at once


@dataclass(frozen=True)
class Recommendations:
    """The best unseen items, best first."""

    items: np.ndarray  # (n,) codes
    logits: np.ndarray  # (n,)
    routes: np.ndarray  # (layers,) the user's group in each layer
    chosen: np.ndarray  # (layers,) its probability

    @property
    def probabilities(self) -> np.ndarray:
        """(n,) of a click."""
        chances: np.ndarray = 1.0 / (1.0 + np.exp(-self.logits))
        return chances


def recommend(user: UserModel, top: int) -> Recommendations:
    """The ``top`` items with the highest probability that the user never met.

    Raises:
        DataError: ``top`` is out of range, or the user has met every item.
    """
    num_items = user.node.dataset.schema.num_items
    if not 1 <= top <= num_items:
        raise DataError(f"top must be between 1 and {num_items} (the number of items), got {top}")
    unseen = np.setdiff1d(np.arange(1, num_items + 1), user.items)
    if not len(unseen):
        raise DataError(f"the user has met all {num_items} items: there is nothing to recommend")
    logits, routes, chosen = score(user, unseen)
    best = np.argsort(-logits, kind="stable")[:top]
    return Recommendations(unseen[best], logits[best], routes, chosen)


@torch.no_grad()
def score(user: UserModel, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (N,) of items as the user's next, the user's groups and their probabilities."""
    items, labels = user.recent()
    history = user.batch(items[None], labels[None] + 1)
    logits = []
    for first in range(0, len(candidates), CANDIDATES):
        part = torch.from_numpy(candidates[first : first + CANDIDATES])
        output = user.network.score_items(history, part)
        logits.append(output.logits[0].double().numpy())
    return np.concatenate(logits), output.routes[0].numpy(), output.chosen[0].numpy()


@torch.no_grad()
def leave_one_out(user: UserModel, candidates: np.ndarray) -> np.ndarray:
    """(n, N) logit of every candidate minus its logit without history item 1..n."""
    items, labels = user.recent()
    n = len(items)
    if not n:
        return np.zeros((0, len(candidates)))
    whole, _, _ = score(user, candidates)
    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])  # (n, n - 1)
    rows = max(1, POSITIONS // n)
    wanted = torch.from_numpy(candidates)
    without = [
        user.network.score_items(
            user.batch(items[part], labels[part] + 1), wanted
        ).logits.double().numpy()
        for part in (others[first : first + rows] for first in range(0, n, rows))
    ]  # fmt: skip
    difference: np.ndarray = whole - np.concatenate(without)
    return difference

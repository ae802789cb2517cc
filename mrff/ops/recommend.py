"""Ranks the items a user has not seen, and says which history items moved a score.

The explanation is leave-one-out: the history is scored again without one of its items, and what
the logit loses is that item's part. Nothing is approximated, the other items, the gate's choice
of groups included, react as they would have. Parts therefore need not add up to the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mrff.data.errors import DataError
from mrff.ops.nodes import UserModel

CANDIDATES = 65536  # scored at once
POSITIONS = 65536  # of histories scored at once
MOVERS = 5  # history items named per item and direction
SHOWN_PART = 0.005  # of a logit; smaller parts are not worth a word


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


def answer(user: UserModel, titles: list[str], *, top: int, explain: bool) -> dict[str, Any]:
    """What the user is recommended, by whose parameters, and on request why; as in JSON.

    Args:
        titles: of all items, by code.
        explain: adds ``raised_by`` and ``lowered_by`` to every item, and ``moved_alike``: whether
            the history moves all of the items alike.

    Raises:
        DataError: see `recommend`.
    """
    found = recommend(user, top)
    items: list[dict[str, Any]] = [
        {"item": titles[item], "code": int(item), "probability": float(chance)}
        for item, chance in zip(found.items, found.probabilities, strict=True)
    ]
    said = {
        "user": user.name,
        "is_known": user.is_known,
        "has_own_parameters": user.has_own,
        "best_round": user.best_round,
        "provenance": user.provenance,
        "history": len(user.recent()[0]),  # items that the network reads
        "groups": [
            {"layer": layer, "group": int(group) + 1, "probability": float(chance)}
            for layer, (group, chance) in enumerate(zip(found.routes, found.chosen, strict=True), 1)
        ],
        "items": items,
    }
    if explain:
        parts = leave_one_out(user, found.items)
        for line, column in zip(items, parts.T, strict=True):
            line["raised_by"] = _movers(user, titles, column)
            line["lowered_by"] = _movers(user, titles, column, sign=-1)
        said["moved_alike"] = not parts.size or bool(np.ptp(parts, axis=1).max() < SHOWN_PART)
    return said


def _movers(
    user: UserModel, titles: list[str], parts: np.ndarray, sign: int = 1
) -> list[dict[str, Any]]:
    """The history items with the largest parts of a sign, the largest first."""
    items, labels = user.recent()
    return [
        {"item": titles[items[i]], "liked": bool(labels[i]), "part": float(parts[i])}
        for i in np.argsort(-sign * parts, kind="stable")[:MOVERS]
        if sign * parts[i] >= SHOWN_PART
    ]


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
    history = user.batch(items[None], labels[None])
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
    without = []
    for first in range(0, n, rows):
        part = others[first : first + rows]
        output = user.network.score_items(user.batch(items[part], labels[part]), wanted)
        without.append(output.logits.double().numpy())
    difference: np.ndarray = whole - np.concatenate(without)
    return difference

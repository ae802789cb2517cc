"""Ranks items for a user, and says which history items moved a score.

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
from mrff.linear import Mixture, told
from mrff.ops.best_items import CANDIDATES, Met, Readers, best_items
from mrff.ops.user_model import UserModel
from mrff.ops.wish import Wish, items_that_fit, nothing_left
from mrff_model.batch import Batch

POSITIONS = 65536  # of histories scored at once
MOVERS = 5  # history items named per item and direction
LATEST = 10  # items of a history named in an answer
SHOWN_PART = 0.005  # of a logit; smaller parts are not worth a word


@dataclass(frozen=True)
class Recommendations:
    """The best items, best first.

    ``scores`` order them: of being the next item where a run has learned that, else of a click.
    """

    items: np.ndarray  # (n,) codes
    scores: np.ndarray  # (n,)
    logits: np.ndarray | None  # (n,) of a click, where a run has learned that
    routes: np.ndarray  # (layers,) the user's group in each layer
    chosen: np.ndarray  # (layers,) its probability

    @property
    def probabilities(self) -> np.ndarray | None:
        """(n,) of a click, where a run has learned that."""
        return None if self.logits is None else 1.0 / (1.0 + np.exp(-self.logits))


def answer(user: UserModel, titles: list[str], wish: Wish, *, explain: bool) -> dict[str, Any]:
    """What the user is recommended, by whose parameters, and on request why; as in JSON.

    Args:
        titles: of all items, by code.
        explain: adds ``raised_by`` and ``lowered_by`` to every item, and ``moved_alike``: whether
            the history moves all of the items alike.

    Raises:
        DataError: see `recommend`.
    """
    found = recommend(user, wish)
    items: list[dict[str, Any]] = [
        {"item": titles[item], "code": int(item), "score": float(score)}
        for item, score in zip(found.items, found.scores, strict=True)
    ]
    if found.probabilities is not None:
        for line, chance in zip(items, found.probabilities, strict=True):
            line["probability"] = float(chance)
    said = {
        "user": user.name,
        "is_known": user.is_known,
        "has_own_parameters": user.has_own,
        "best_round": user.best_round,
        "provenance": _provenance(user, titles),
        "ordered_by": ordered_by(user),
        "history": len(user.recent()[0]),  # items that the network reads
        "latest": [titles[item] for item in user.items[-LATEST:]],
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


def _provenance(user: UserModel, titles: list[str]) -> str:
    """Whose parameters answer, and what of the catalogue they have never seen."""
    later = len(titles) - 1 - user.node.dataset.schema.num_items
    if not later:
        return user.provenance
    return f"{user.provenance}; {later} items came into the catalogue after this run"


def ordered_by(user: UserModel) -> str:
    """What the order of a user's list means, in a few words."""
    return order_of(user.node.config.objective, user.mixture)


def order_of(objective: str, mixture: Mixture | None) -> str:
    """What the order of a run's lists means, in a few words."""
    if objective == "click":
        return "how likely the user likes an item they are shown, not which they would choose"
    if mixture is None:
        return "how likely an item is the user's next"
    return f"how likely an item is the user's next, by {told(mixture.mixes[0])}"


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


def recommend(user: UserModel, wish: Wish) -> Recommendations:
    """The items with the best scores.

    Raises:
        DataError: ``top`` is out of range, or no item is left: the user has met every one of them,
            or none has the values asked for.
        RunError: a score is no number.
    """
    dataset = user.node.dataset
    top = wish.number(dataset.schema.num_items)
    is_candidate = torch.from_numpy(items_that_fit(dataset, wish))[None]
    readers = readers_of(user)
    if wish.leaves_out_met(dataset.schema):
        is_candidate = is_candidate & ~readers.met_items
    if not is_candidate.any():
        raise DataError(nothing_left(dataset, wish))
    found = best_items(readers, is_candidate, top)
    listed = found.items[0] > 0
    return Recommendations(
        found.items[0][listed],
        found.scores[0][listed],
        None if found.logits is None else found.logits[0][listed],
        found.routes[0],
        found.chosen[0],
    )


def readers_of(user: UserModel) -> Readers:
    """The user alone, as `best_items` takes them."""
    return Readers(
        user.network,
        user.private,
        user.histories,
        Met(user.items, np.array([0, len(user.items)])),
        user.mixture,
    )


@torch.no_grad()
def next_scores(user: UserModel, histories: Batch) -> np.ndarray:
    """(B, items) of items 1, 2, ... as the next, by the network alone."""
    newest = torch.full((len(histories.items), 1), histories.items.shape[2] - 1)
    scores: np.ndarray = user.network(histories, rank_at=newest).scores[:, 0].double().numpy()
    return scores


@torch.no_grad()
def score(
    user: UserModel, candidates: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Logits (N,) of a click where that is learned, the user's groups and their probabilities."""
    history, logits = user.histories, []
    for first in range(0, len(candidates), CANDIDATES):
        part = torch.from_numpy(candidates[first : first + CANDIDATES])
        output = user.network.score_items(history, part)
        logits.append(output.logits[0].double().numpy())
    liked = None if user.network.head is None else np.concatenate(logits)
    return liked, output.routes[0].numpy(), output.chosen[0].numpy()


@torch.no_grad()
def leave_one_out(user: UserModel, candidates: np.ndarray) -> np.ndarray:
    """(n, N) the network's score of every candidate minus that without history item 1..n."""
    n = len(user.recent()[0])
    if not n:
        return np.zeros((0, len(candidates)))

    def scores(histories: Batch) -> np.ndarray:
        if user.network.next_head is not None:
            return next_scores(user, histories)[:, candidates - 1]
        found = user.network.score_items(histories, torch.from_numpy(candidates))
        logits: np.ndarray = found.logits.double().numpy()
        return logits

    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])  # (n, n - 1)
    rows = max(1, POSITIONS // n)
    without = [
        scores(user.histories_of(part))
        for part in (others[first : first + rows] for first in range(0, n, rows))
    ]
    difference: np.ndarray = scores(user.histories) - np.concatenate(without)
    return difference

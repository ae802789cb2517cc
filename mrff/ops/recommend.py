"""Ranks items for a user, and says which history items moved a score.

The explanation is leave-one-out: the history is scored again without one of its items, and what
the logit loses is that item's part. Nothing is approximated, the other items, the gate's choice
of groups included, react as they would have. Parts therefore need not add up to the score.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from client_app.learners.ranking import linear_scores, mixed
from mrff.data.errors import DataError
from mrff.linear import told
from mrff.ops.nodes import UserModel
from mrff_model.batch import Batch

CANDIDATES = 65536  # scored at once
POSITIONS = 65536  # of histories scored at once
MOVERS = 5  # history items named per item and direction
SHOWN_PART = 0.005  # of a logit; smaller parts are not worth a word


@dataclass(frozen=True)
class Wish:
    """Which items are asked for.

    Args:
        top: how many.
        include_seen: items that the user has met as well.
        only: values that an item's features must have, by feature.
    """

    top: int = 10
    include_seen: bool = False
    only: Mapping[str, str] = field(default_factory=dict)


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
        "provenance": user.provenance,
        "ordered_by": ordered_by(user),
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


def ordered_by(user: UserModel) -> str:
    """What the order of a user's list means, in a few words."""
    if user.network.next_head is None:
        return "how likely the user likes an item they are shown, not which they would choose"
    if user.mixture is None:
        return "how likely an item is the user's next"
    return f"how likely an item is the user's next, by {told(user.mixture.mixes[0])}"


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
    """
    num_items = user.node.dataset.schema.num_items
    if not 1 <= wish.top <= num_items:
        raise DataError(
            f"top must be between 1 and {num_items} (the number of items), got {wish.top}"
        )
    candidates = _with_values(user, wish.only)
    if not wish.include_seen:
        candidates = np.setdiff1d(candidates, user.items)
    if not len(candidates):
        if wish.only:
            named = ", ".join(f"{name}={value}" for name, value in wish.only.items())
            raise DataError(f"no item with {named} is left that the user has not met")
        raise DataError(f"the user has met all {num_items} items: there is nothing to recommend")
    return _best(user, candidates, wish.top)


def _best(user: UserModel, candidates: np.ndarray, top: int) -> Recommendations:
    logits, routes, chosen = score(user, candidates)
    scores = logits
    if user.network.next_head is not None:
        items, labels = user.recent()
        whole = next_scores(user, user.batch(items[None], labels[None]))[0]
        scores = whole[candidates - 1]
        if user.mixture is not None:
            scores = _mixed(user, candidates, whole)
    assert scores is not None
    order = np.argsort(-scores, kind="stable")[:top]
    liked = None if logits is None else logits[order]
    return Recommendations(candidates[order], scores[order], liked, routes, chosen)


def _mixed(user: UserModel, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The network's scores (items,) mixed with those of the linear models, of the candidates."""
    assert user.mixture is not None
    is_candidate = torch.zeros(1, len(scores), dtype=torch.bool)
    is_candidate[0, candidates - 1] = True
    offsets = np.array([0, len(user.items)])
    linear = linear_scores(user.mixture.part, user.items, offsets, len(scores))
    by = mixed([torch.from_numpy(scores)[None], *linear], is_candidate, user.mixture)
    values: np.ndarray = next(iter(by))[0].numpy()
    return values[candidates - 1]


def _with_values(user: UserModel, only: Mapping[str, str]) -> np.ndarray:
    """Codes of the items that have all of the values."""
    dataset = user.node.dataset
    fits = np.ones(dataset.schema.num_items + 1, dtype=bool)
    fits[0] = False
    known = {f.name: f for f in dataset.schema.item_features if f.kind != "id"}
    for name, value in only.items():
        feature = known.get(name)
        if feature is None:
            raise DataError(f"items have no feature {name!r}; known: {', '.join(known) or 'none'}")
        if value not in feature.values:
            near = difflib.get_close_matches(value, feature.values, n=3) or feature.values[:5]
            raise DataError(f"{name} has no value {value!r}; near it: {', '.join(near)}")
        codes = dataset.item_features[name].reshape(len(fits), -1)
        fits &= (codes == feature.values.index(value) + 1).any(axis=1)
    return np.flatnonzero(fits)


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
    items, labels = user.recent()
    history, logits = user.batch(items[None], labels[None]), []
    for first in range(0, len(candidates), CANDIDATES):
        part = torch.from_numpy(candidates[first : first + CANDIDATES])
        output = user.network.score_items(history, part)
        logits.append(output.logits[0].double().numpy())
    liked = None if user.network.head is None else np.concatenate(logits)
    return liked, output.routes[0].numpy(), output.chosen[0].numpy()


@torch.no_grad()
def leave_one_out(user: UserModel, candidates: np.ndarray) -> np.ndarray:
    """(n, N) the network's score of every candidate minus that without history item 1..n."""
    items, labels = user.recent()
    n = len(items)
    if not n:
        return np.zeros((0, len(candidates)))

    def scores(items: np.ndarray, labels: np.ndarray) -> np.ndarray:
        histories = user.batch(items, labels)
        if user.network.next_head is not None:
            return next_scores(user, histories)[:, candidates - 1]
        found = user.network.score_items(histories, torch.from_numpy(candidates))
        logits: np.ndarray = found.logits.double().numpy()
        return logits

    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])  # (n, n - 1)
    rows = max(1, POSITIONS // n)
    without = [
        scores(items[part], labels[part])
        for part in (others[first : first + rows] for first in range(0, n, rows))
    ]
    difference: np.ndarray = scores(items[None], labels[None]) - np.concatenate(without)
    return difference

"""Sums over a node's users that need no network: item counts, and those of linear models.

Both read the training part alone. Un-noised, they tell a one-user node's items: private modes
refuse them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from client_app.learners.ranking import history_of
from client_app.node import Node
from mrff.config import ConfigError
from mrff.data.windows import train_sizes
from mrff.linear import LINEAR, Sequences, sequences_of
from mrff.sums import CohortSums
from mrff.wire.replies import Reply
from mrff.wire.requests import Request

MOST_TARGETS = 100_000  # of the users whose histories lie in memory as sparse rows at once


def item_counts(node: Node, request: Request) -> Reply:
    """How often each item of the catalogue was met.

    Raises:
        ConfigError: in a private mode, or on a node with a budget of its own.
    """
    _refuse_in_private(node)
    items, _ = _training_part(node)
    catalogue = request.run.items or node.dataset.schema.num_items
    counts = np.bincount(items, minlength=catalogue + 1)[1:]
    return Reply(request.facts.round, CohortSums({}, {"item_counts": counts}))


def linear_sums(node: Node, request: Request) -> Reply:
    """What every linear model sums, over the items that the request names.

    Raises:
        ConfigError: in a private mode, or for items that are not in the catalogue.
    """
    _refuse_in_private(node)
    named = request.linear.get("items", np.zeros(0)).astype(np.int64)
    most = node.dataset.schema.num_items
    if not len(named) or named.min() < 1 or named.max() > most:
        raise ConfigError(f"linear models need items from 1 to {most}, got {len(named)} others")
    items, offsets = _training_part(node)
    sequences = sequences_of(named, items, offsets)
    total = CohortSums(
        {n: np.zeros(s) for m in LINEAR.values() for n, s in m.shapes(len(named)).items()}
    )
    for part in _parts(sequences):
        for model in LINEAR.values():
            total += CohortSums(model.sums(part))
    return Reply(request.facts.round, total)


def _training_part(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Items (n,) of the node's users without both held-out parts, and their offsets (U + 1,)."""
    dataset, users = node.dataset, node.users
    sizes = train_sizes(dataset, users, holdout=node.config.data.holdout)
    return history_of(dataset, users, dataset.offsets[users] + sizes)


def _parts(sequences: Sequences) -> list[Sequences]:
    """Users in order, with about `MOST_TARGETS` interactions each."""
    bounds = np.arange(0, sequences.offsets[-1], MOST_TARGETS)
    firsts = [*np.unique(np.searchsorted(sequences.offsets, bounds)), len(sequences.offsets) - 1]
    return [
        sequences.part(int(first), int(last)) for first, last in pairwise(firsts) if last > first
    ]


def _refuse_in_private(node: Node) -> None:
    if node.mechanism.hides_routes or node.limits:
        why = f"privacy.mode={node.config.privacy.mode}"
        if node.limits:
            why = f"a node with {' and '.join(node.limits)}"
        raise ConfigError(
            f"{why} answers no query about items: sums of a one-user node name them; "
            "use training.linear-items=off"
        )

"""Sums over a node's users that need no network: item counts, and those of linear models.

Both read the training part alone. Un-noised, they tell a one-user node's items: private modes
refuse them, but for item rates, which their mechanism may sum with noise.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from client_app.learners.counted import counted_until, weights_of
from client_app.node import Node
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.data.windows import train_sizes
from mrff.linear import LINEAR, Sequences, sequences_of
from mrff.linear.item_factors import STEPS, moments
from mrff.metrics.lists import ITEM_COUNTS
from mrff.privacy.noised_items import ITEMS
from mrff.sums import CohortSums
from mrff.wire.replies import Reply
from mrff.wire.requests import ITEM_LIKES, SQUARES, USERS, Arrays, Request
from mrff_model.item_statistics import ItemStatistics

MOST_TARGETS = 100_000  # of the users whose histories lie in memory as sparse rows at once


def item_counts(node: Node, request: Request) -> Reply:
    """How often each item of the catalogue was met.

    Raises:
        ConfigError: in a private mode, or on a node with a budget of its own.
    """
    _refuse_in_private(node)
    rows, _ = _training_part(node)
    catalogue = request.run.items or node.dataset.schema.num_items
    counts = np.bincount(node.dataset.items[rows], minlength=catalogue + 1)[1:]
    return Reply(request.facts.round, CohortSums({}, {ITEM_COUNTS: counts}))


def item_rates(node: Node, request: Request) -> Reply:
    """How often each item of the catalogue was met and liked, see `strategies.statistics_phase`.

    Raises:
        BudgetExceededError: a user's budget does not allow it.
        ConfigError: as `item_counts`, where the mode has no noised sums of items.
    """
    catalogue = request.run.items or node.dataset.schema.num_items
    noisy = node.mechanism.items(node.config)
    if noisy is not None:
        rows, offsets = _labelled_part(node.dataset, node.users, node.config)
        weights = weights_of(node.dataset, node.users, node.config)
        assert weights is not None
        signed = np.repeat(weights, np.diff(offsets)) * (2.0 * node.dataset.labels[rows] - 1.0)
        vector = noisy.vector(node.dataset.items[rows], signed, catalogue)
        sums = CohortSums({ITEMS: vector}, {"units": np.array(len(node.users))})
        return Reply(request.facts.round, node.mechanism.counted(node.view(request), sums))
    _refuse_in_private(node)
    return Reply(request.facts.round, rates_of(node.dataset, node.users, node.config, catalogue))


def factor_sums(node: Node, request: Request) -> Reply:
    """What item vectors are solved from, by the rates and vectors that came.

    Raises:
        ConfigError: as `item_counts`, or arrays of another catalogue.
    """
    _refuse_in_private(node)
    came, known = request.linear, node.dataset.schema.num_items
    if came.keys() != {"rates", "prior", "vectors"} or len(came["vectors"]) <= known:
        raise ConfigError(f"item vectors need rates, prior and vectors of at least {known} items")
    if not 1 <= request.facts.round <= STEPS:  # as many sums, and no more, whoever asks
        raise ConfigError(
            f"item vectors are solved for in steps 1 to {STEPS}, this is step {request.facts.round}"
        )
    return Reply(request.facts.round, moments_of(node.dataset, node.users, node.config, came))


def rates_of(dataset: Dataset, users: np.ndarray, config: RunConfig, catalogue: int) -> CohortSums:
    """How often these users met and liked each of ``catalogue`` items, in their training parts."""
    rows, _ = _labelled_part(dataset, users, config)
    items = dataset.items[rows], dataset.items[rows[dataset.labels[rows] > 0]]
    met, liked = (np.bincount(some, minlength=catalogue + 1)[1:] for some in items)
    return CohortSums({}, {ITEM_COUNTS: met, ITEM_LIKES: liked})


def moments_of(dataset: Dataset, users: np.ndarray, config: RunConfig, came: Arrays) -> CohortSums:
    """What these users add to the sums that item vectors are solved from.

    Args:
        came: rates, prior and vectors so far.
    """
    rows, offsets = _labelled_part(dataset, users, config)
    items, labels = dataset.items[rows].astype(np.int64), dataset.labels[rows]
    residuals = _residuals(came, items, labels)
    noise = float(came["prior"][1])
    sums = moments(items, residuals, offsets, came["vectors"].astype(np.float64), noise)
    numbers = {SQUARES: np.array((residuals**2).sum()), USERS: np.array(len(offsets) - 1)}
    return CohortSums(sums, numbers)


def _residuals(came: Arrays, items: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) of rows that are all counted, as the network has them."""
    dim = came["vectors"].shape[1]
    statistics = ItemStatistics(len(came["rates"]), dim)
    statistics.load_state_dict({name: torch.from_numpy(values) for name, values in came.items()})
    liked = torch.from_numpy(labels.astype(np.float32))
    found = statistics.residuals(torch.from_numpy(items), liked, torch.ones_like(liked))
    return found.double().numpy()


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
    rows, offsets = _training_part(node)
    sequences = sequences_of(named, node.dataset.items[rows].astype(np.int64), offsets)
    total = CohortSums(
        {n: np.zeros(s) for m in LINEAR.values() for n, s in m.shapes(len(named)).items()}
    )
    for part in _parts(sequences):
        for model in LINEAR.values():
            total += CohortSums(model.sums(part))
    return Reply(request.facts.round, total)


def _training_part(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) of the node's users without both held-out parts, and their offsets (U + 1,)."""
    dataset, users = node.dataset, node.users
    sizes = train_sizes(dataset, users, holdout=node.config.data.holdout)
    begin = dataset.offsets[users]
    return rows_between(begin, begin + sizes), np.concatenate([[0], np.cumsum(sizes)])


def _labelled_part(
    dataset: Dataset, users: np.ndarray, config: RunConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The same without rows whose labels are not known where a user is scored."""
    begin = dataset.offsets[users]
    sizes = counted_until(dataset, users, config) - begin
    return rows_between(begin, begin + sizes), np.concatenate([[0], np.cumsum(sizes)])


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
            "use training.linear-items=off and network.item-statistics=false"
        )

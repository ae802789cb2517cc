"""Popularity, and items like those of the history: ItemKNN, and what followed what.

ItemKNN (Sarwar et al., WWW 2001): an item's score is the sum of its similarities to the items of
the history, of its nearest neighbours only. Two items are alike by the cosine of who met them.
Rules (Ludewig and Jannach, UMUAI 2018): see `mrff.linear.rules`; these know the whole catalogue.
Both are sparse: no matrix of items by items is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrff.experiments.central.ranking import WHOLE, Candidate, Scores, Training, Users
from mrff.linear.base import decay
from mrff.linear.sequences import LEFT_OUT

if TYPE_CHECKING:
    from scipy import sparse

NEIGHBOURS = (50, 100, 200, 500, 1000)
DECAYS = (WHOLE, 0.95, 0.9, 0.8, 0.7, 0.6)
RULE_DECAYS = (0.6, 0.7, 0.8, 0.9)
RULE_ITEMS = 20  # latest ones of a history


def popularity(training: Training) -> Iterator[Candidate]:
    """How often an item was met; there is nothing to choose."""
    items = training.sequences.items
    counts = np.bincount(items[items != LEFT_OUT], minlength=training.sequences.size)
    yield Candidate("", lambda users, history: np.broadcast_to(counts, history.shape))


def item_knn(training: Training) -> Iterator[Candidate]:
    """30 points: `NEIGHBOURS` by `DECAYS`."""
    alike = cosine(training.sequences.whole())
    for count in NEIGHBOURS:
        weights = nearest(alike, count)
        for factor in DECAYS:
            told = f"{count} neighbours, decay {factor}"
            yield Candidate(told, partial(_by_sparse, weights=weights), factor)


def rules(training: Training) -> Iterator[Candidate]:
    """16 points: `RULE_DECAYS` of what is counted by those of what is read."""
    for counted in RULE_DECAYS:
        weights = follow_shares(training, decay(counted, RULE_ITEMS))
        for factor in RULE_DECAYS:
            told = f"decay {counted} in counting, {factor} in scoring"
            yield Candidate(told, partial(_by_sparse, weights=weights), factor)


def cosine(met: sparse.csr_matrix) -> sparse.csc_matrix:
    """(N, N) of the columns of (U, N), 0 on the diagonal."""
    from scipy import sparse  # nothing else of a comparison needs it

    together = (met.T @ met).tocoo()
    norms = np.sqrt(np.asarray(met.multiply(met).sum(axis=0)).ravel())
    values = together.data / (norms[together.row] * norms[together.col])
    values[together.row == together.col] = 0.0
    alike = sparse.csc_matrix((values, (together.row, together.col)), shape=together.shape)
    alike.eliminate_zeros()
    return alike


def nearest(alike: sparse.csc_matrix, count: int) -> sparse.csr_matrix:
    """The ``count`` largest entries of every column; of equal ones the upper rows."""
    from scipy import sparse  # nothing else of a comparison needs it

    kept: list[NDArray[np.intp]] = []
    for begin, end in zip(alike.indptr[:-1], alike.indptr[1:], strict=True):
        order = np.argsort(-alike.data[begin:end], kind="stable")[:count]
        kept.append(begin + np.sort(order))
    places = np.concatenate([np.zeros(0, dtype=np.intp), *kept])
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in kept])])
    parts = (alike.data[places], alike.indices[places], indptr)
    return sparse.csc_matrix(parts, shape=alike.shape).tocsr()


def follow_shares(training: Training, ages: NDArray[np.float64]) -> sparse.csr_matrix:
    """(N, N) the share of j in what followed i, by counts that fall with the items between."""
    from scipy import sparse  # nothing else of a comparison needs it

    users, places = training.sequences.targets()
    history = training.sequences.before(users, places, ages)
    following = training.sequences.before(users, places + 1, np.ones(1))
    followed = (history.T @ following).tocsr()
    totals = np.asarray(followed.sum(axis=1)).ravel()
    return (sparse.diags(1.0 / np.maximum(totals, 1.0)) @ followed).tocsr()


def _by_sparse(users: Users, history: sparse.csr_matrix, weights: sparse.csr_matrix) -> Scores:
    return np.asarray((history @ weights).toarray())

"""The lists of all users of a run whose data lie on this machine, many at once.

Users with histories of one length share a computation, so that nothing is padded. Memory is
bounded by a chunk's share of the catalogue, whatever the number of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch

from client_app.learners import Cohort
from client_app.learners.chunks import compute
from client_app.learners.counted import counted_histories
from client_app.node import Node
from mrff.data.dataset import rows_between
from mrff.data.schema import USERS_FILE
from mrff.data.windows import items_before
from mrff.ops.best_items import CANDIDATES, BestItems, Met, Readers, best_items
from mrff.ops.histories import windows_of, with_times
from mrff.ops.nodes import NodesAtHand
from mrff.ops.user_model import check_before_test
from mrff.ops.wish import Wish, items_that_fit
from mrff_model.building import rows_suffice

USERS_AT_ONCE = 2048  # whose lists lie in memory, and after whom progress is told
LISTED_AT_ONCE = 2**22  # items on their lists
POSITIONS = 8192  # of histories in a computation
SCORE_BYTES = 128 * 2**20  # of the scores in a computation
NEXT_BYTES, MIXED_BYTES = 48, 96  # per user and item: scores, their order, what they are mixed of


@dataclass(frozen=True)
class Lists:
    """Lists of U users of a node, in the order of its data."""

    users: np.ndarray  # (U,) ids as in the data
    best: BestItems  # one with nothing left has no item but 0
    shared_only: int  # of them have no private parameters, in a run that has some
    too_short: int  # users beside them who have no test interaction, and no list


@dataclass(frozen=True)
class AllUsers:
    """Asks for the lists of every user.

    Args:
        before_test: as if held-out test interactions had not happened; users who are too short
            for the split have none, and get no list.
    """

    nodes: NodesAtHand
    wish: Wish
    before_test: bool = False

    @property
    def number(self) -> int:
        """How many users there are."""
        return int(pq.read_metadata(self.nodes.dataset_folder / USERS_FILE).num_rows)

    def lists(self) -> Iterator[Lists]:
        """Node by node, some users at a time.

        Raises:
            DataError: see `items_that_fit` and `Wish.number`.
            RunError: see `NodesAtHand.open_all` and `best_items`.
            PrivateStoreError: the private state is damaged or of another network.
        """
        if self.before_test:
            check_before_test(self.nodes.best)
        for node in self.nodes.open_all(as_split=self.before_test):
            fits = torch.from_numpy(items_that_fit(node.dataset, self.wish))
            users = node.tested if self.before_test else np.arange(node.dataset.num_users)
            too_short = node.dataset.num_users - len(users)
            top = self.wish.number(node.dataset.schema.num_items)
            size = min(USERS_AT_ONCE, max(1, LISTED_AT_ONCE // top))
            for first in range(0, max(len(users), 1), size):
                cohort = node.cohort(users[first : first + size], up_to_round=self.nodes.best.round)
                lacking = bool(cohort.private) * int((cohort.routes < 0).any(axis=1).sum())
                names = node.dataset.user_ids[cohort.users]
                yield Lists(names, self._best(node, cohort, fits), lacking, too_short)
                too_short = 0

    def _best(self, node: Node, cohort: Cohort, fits: torch.Tensor) -> BestItems:
        """Of every user of the cohort; ``fits`` (items,) are those asked for."""
        network = node.mrff
        spans, top = self._spans(node, cohort.users), self.wish.number(len(fits))
        found = BestItems.none(
            (len(cohort), top), len(network.layers), clicks=network.head is not None
        )

        def answer(rows: np.ndarray) -> BestItems:
            readers = self._readers(node, cohort.part(rows), spans[rows])
            is_candidate = fits.expand(len(rows), -1)
            if self.wish.leaves_out_met(node.dataset.schema):
                is_candidate = is_candidate & ~readers.met_items
            return best_items(readers, is_candidate, top)

        for rows, best in compute(self._chunks(node, spans), answer):
            found.keep(rows, best)
        return found

    def _spans(self, node: Node, users: np.ndarray) -> np.ndarray:
        """(U, 3) first interaction of each user, first that the network reads, end of both."""
        data = node.config.data
        begin, end = node.dataset.offsets[users], node.dataset.offsets[users + 1]
        if self.before_test:
            end = end - data.holdout
        return np.stack([begin, np.maximum(begin, end - (data.window_length - 1)), end], axis=1)

    def _chunks(self, node: Node, spans: np.ndarray) -> list[np.ndarray]:
        """Rows of users with histories of one length, as many as fit a computation."""
        lengths, items = spans[:, 2] - spans[:, 1], node.dataset.schema.num_items
        chunks: list[np.ndarray] = []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            if not rows_suffice(node.mrff):
                most = 1
            elif node.mrff.next_head is None:
                most = CANDIDATES // items
            else:
                row = items * (NEXT_BYTES if self.nodes.best.mixture is None else MIXED_BYTES)
                most = min(POSITIONS // (int(length) + 1), SCORE_BYTES // row)
            most = max(1, most)
            chunks += [rows[first : first + most] for first in range(0, len(rows), most)]
        return chunks

    def _readers(self, node: Node, cohort: Cohort, spans: np.ndarray) -> Readers:
        """The cohort's users, whose histories have one length."""
        dataset, (begin, start, end) = node.dataset, spans.T
        places = start[:, None] + np.arange(end[0] - start[0])
        histories = windows_of(
            torch.from_numpy(dataset.items[places].astype(np.int64)),
            torch.from_numpy(dataset.labels[places].astype(np.int64) + 1),
            {n: torch.from_numpy(c[cohort.users]).long() for n, c in dataset.user_features.items()},
        )
        if dataset.times is not None:
            histories = with_times(histories, dataset.times[places])
        if node.config.gate_input == "earlier":
            before = items_before(dataset, cohort.users, start, node.config.data.window_length)
            histories = histories._replace(earlier=(torch.from_numpy(before),))
        counted = counted_histories(dataset, cohort.users, places, node.config)
        histories = histories.with_fields(counted)
        rows = rows_between(begin, end)
        return Readers(
            node.mrff,
            cohort.private,
            histories,
            Met(dataset.items[rows], np.cumsum([0, *(end - begin)])),
            self.nodes.best.mixture,
        )

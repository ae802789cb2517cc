"""Ranks held-out items by models of everybody's training rows; validation chooses one of a grid.

The protocol is that of a federated run (`client_app.learners.ranking`): all items that a user had
not met are candidates, equal scores count by expectation, an item that a model does not know
scores 0. Models are fitted to everybody's training rows, once. The history that a
held-out item is scored from is what came before it: for the test that includes validation.
Where ``data.targets`` is ``liked``, each is tried with all rows and with the liked ones only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners.ranking import Ranking, ranks_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset, rows_between
from mrff.data.floors import split_rows
from mrff.data.windows import first_of_time, tested_first, train_sizes
from mrff.experiments.central import Note, Ranked, nobody
from mrff.experiments.central.validation import Best
from mrff.linear.base import decay
from mrff.linear.sequences import LEFT_OUT, Sequences
from mrff.metrics import measures_of_ranks
from mrff.metrics.metric import Ranks
from mrff.wire.requests import Part

if TYPE_CHECKING:
    from scipy import sparse

Users = NDArray[np.int64]
Scores = NDArray[Any]  # (B, N) floats
Scorer = Callable[[Users, "sparse.csr_matrix"], Scores]
"""Scores of the N known items, for B users of `Training` with their histories (B, N)."""
Read = Literal["all", "liked"]
READ: dict[str, tuple[Read, ...]] = {"all": ("all",), "liked": ("all", "liked")}
"""Rows that models are fitted to and histories made of, by ``data.targets``; validation chooses."""
WHOLE = 1.0  # the decay of a history that counts alike, however old
NEGLIGIBLE = 1e-3  # weight of an item that is too old to count
CHUNK_NUMBERS = 8_000_000  # scores in memory at once
MOST_DENSE_ITEMS = 8_000  # of models with a matrix of items by items, where no setting says


@dataclass(frozen=True)
class Training:
    """What the models of a grid are fitted to."""

    sequences: Sequences  # training rows of U users, as columns of the known items
    seed: int


@dataclass(frozen=True)
class Candidate:
    """A point of a grid: a fitted model, and how it reads histories."""

    told: str  # its settings, as a log shows them
    score: Scorer
    decay: float = WHOLE  # of an item's weight from one interaction to the next


Grid = Callable[[Training], Iterator[Candidate]]
"""Fits and yields one candidate after the other: the budget of tuning is their number."""


def rank_by(
    grid: Grid, dataset: Dataset, config: RunConfig, note: Note = nobody, *, dense: bool = False
) -> Ranked:
    """Tests the candidate that ranks the validation items best.

    Args:
        note: told of the number of every candidate, and of its validation.
        dense: models hold a matrix of items by items: they know the ``training.linear-items`` met
            most, `MOST_DENSE_ITEMS` where that is off; ties go to the lower code.

    Raises:
        ConfigError: ``select-best-by`` is no measure of ranks.
        DataError: no user is long enough for the split.
    """
    most = (config.training.linear_items or MOST_DENSE_ITEMS) if dense else None
    best, chosen, tried = Best(config, frozenset({"ranks"})), list[Ranked](), 0
    for read in READ[config.data.targets]:
        protocol = FullRanking(dataset, config, most_items=most, read=read)
        for candidate in grid(protocol.training):
            tried += 1
            measures = measures_of_ranks(protocol.ranks(candidate, "valid"))
            note(tried, measures)
            if best.improves(tried, measures):
                told = candidate.told if read == "all" else f"{read} rows only, {candidate.told}"
                test = protocol.ranks(candidate, "test")
                chosen = [Ranked(protocol.users, test, tried, told)]
    return replace(chosen[0], tried=tried)


def weights_by_age(factor: float, longest: int) -> NDArray[np.float64]:
    """(A,) weights of a history's items, the latest first, until they are `NEGLIGIBLE`."""
    if factor == WHOLE:
        return decay(factor, longest)
    return decay(factor, math.ceil(math.log(NEGLIGIBLE) / math.log(factor)))


class FullRanking:
    """The protocol on one dataset: its training rows, and the ranks of its held-out items."""

    def __init__(
        self,
        dataset: Dataset,
        config: RunConfig,
        *,
        most_items: int | None = None,
        read: Read = "all",
    ) -> None:
        self._dataset, self._config = dataset, config
        self._holdout = config.data.holdout
        self.users = split_rows(dataset, holdout=self._holdout, part="valid").users
        is_read = dataset.labels > 0 if read == "liked" else np.ones(len(dataset.items), dtype=bool)
        # how many of the rows that are read come before each row of the dataset
        self._place = np.concatenate([[0], np.cumsum(is_read)]).astype(np.int64)
        if read == "liked":  # what was liked at the time of an answer may not be known yet
            self._place = self._place[np.append(first_of_time(dataset), len(is_read))]
        items = dataset.items[is_read]
        # Everybody trains, those who are ranked first: a candidate knows users by their rows.
        everybody = tested_first(dataset, holdout=self._holdout)
        sizes = train_sizes(dataset, everybody, holdout=self._holdout)
        begin = self._place[dataset.offsets[everybody]]
        end = self._place[dataset.offsets[everybody] + sizes]
        rows = rows_between(begin, end)
        counts = np.bincount(items[rows], minlength=dataset.schema.num_items + 1)
        met = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        self._known = np.sort(met[:most_items])  # (N,) codes
        column = np.full(len(counts), LEFT_OUT)
        column[self._known] = np.arange(len(self._known))
        self._read = Sequences(column[items], self._place[dataset.offsets], len(self._known))
        offsets = np.concatenate([[0], np.cumsum(end - begin)]).astype(np.int64)
        training = Sequences(self._read.items[rows], offsets, len(self._known))
        self.training = Training(training, config.training.seed)

    def ranks(self, candidate: Candidate, part: Part) -> Ranks:
        """Of every user's held-out items, in time order."""
        users, holdout = self.users, self._holdout
        ranks = Ranks.nothing_yet(len(users), holdout)
        size = max(1, CHUNK_NUMBERS // (holdout * self._dataset.schema.num_items))
        for first in range(0, len(users), size):
            rows = np.arange(first, min(first + size, len(users)))
            scores = torch.from_numpy(self.scores(candidate, rows, part))
            ranking = Ranking.of(self._config, part, None)
            ranks.keep(rows, ranks_of(scores, self._dataset, users[rows], part, ranking))
        return ranks

    def scores(self, candidate: Candidate, rows: Users, part: Part) -> Scores:
        """(B, k, items) of items 1, 2, ..., for the held-out rows of the users ``rows`` (B,)."""
        users, places = self.users[rows], self._place[self._places(rows, part)]
        longest = int((places - self._read.offsets[users, None]).max(initial=1))
        ages = weights_by_age(candidate.decay, longest)
        whole = np.zeros((*places.shape, self._dataset.schema.num_items), dtype=np.float32)
        for number in range(self._holdout):
            history = self._read.before(users, places[:, number], ages)
            whole[:, number, self._known - 1] = candidate.score(rows, history)
        return whole

    def _places(self, rows: Users, part: Part) -> NDArray[np.int64]:
        """(B, k) interactions that are held out."""
        end = self._dataset.offsets[self.users[rows] + 1]
        end = end - (self._holdout if part == "valid" else 0)
        return np.asarray(end[:, None] - self._holdout + np.arange(self._holdout))

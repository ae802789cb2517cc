"""Whether labels can be told from the order of rows: a trap that a model falls into, not taste.

A negative put beside each positive, rows sorted by label, all positives first: a sequence model
learns the pattern and reaches an AUC near 1. Here tables of rates predict each label, from the
labels of the rows around it and from those of the same second, with users left out. The same is
done after shuffling each user's labels, which keeps their rates and destroys the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff.data.floors import SMOOTHING, exact_auc
from mrff.data.schema import INTERACTIONS_FILE

MOST_ROWS, LEAST_ROWS = 500_000, 500  # looked at; fewer say nothing
LONGEST_RUN = 7  # of equal labels that is told apart
# Of what shuffled rows leave open. Datasets as they happened reach 0.31 (kuairand, rows of one
# millisecond; ml-100k 0.30, ml-1m 0.28), planted patterns 0.52 (amazon-electronics, positives
# first) to 1.0.
SUSPICIOUS_SHARE = 0.45

Bools = NDArray[np.bool_]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class LabelRows:
    """Rows (N,) in a user's order of time; ties as the source had them."""

    owners: Codes
    labels: NDArray[np.int8]
    same_time: Bools  # as the user's row before


@dataclass(frozen=True)
class LabelOrder:
    """How well labels can be told, by the view that tells most."""

    told_from: str
    auc: float
    by_chance: float  # the same with each user's labels shuffled

    @property
    def share(self) -> float:
        """Of what chance leaves open; 0: order tells nothing, 1: everything."""
        return (self.auc - self.by_chance) / max(1.0 - self.by_chance, 1e-9)

    @property
    def warning(self) -> str:
        """One line where it is suspicious, else empty."""
        if self.share < SUSPICIOUS_SHARE:
            return ""
        return (
            f"labels can be told from {self.told_from}: AUC {self.auc:.3f}, shuffled rows give "
            f"{self.by_chance:.3f}; a model learns that pattern, not taste: were negatives put "
            "beside positives, or rows sorted by label? give rows their true times, or prepare the "
            "positives alone, as events (without interactions.label)"
        )


def first_rows(folder: Path) -> LabelRows:
    """The first `MOST_ROWS` interactions, or a few more, of a prepared folder."""
    batches, rows = [], 0
    with pq.ParquetFile(folder / INTERACTIONS_FILE) as file:
        for batch in file.iter_batches(columns=["user", "label", "time"]):
            batches.append(batch)
            rows += batch.num_rows
            if rows >= MOST_ROWS:
                break
    table = pa.Table.from_batches(batches)
    owners, labels, times = (table[name].to_numpy() for name in ("user", "label", "time"))
    again = np.zeros(len(owners), dtype=bool)
    again[1:] = (owners[1:] == owners[:-1]) & (times[1:] == times[:-1])
    return LabelRows(owners.astype(np.int64), labels.astype(np.int8), again)


def label_order(rows: LabelRows) -> LabelOrder | None:
    """How well the order tells labels; None for too few rows, or rows of one class."""
    order = np.lexsort((np.random.default_rng(0).random(len(rows.labels)), rows.owners))
    shuffled = LabelRows(rows.owners, rows.labels[order], rows.same_time)
    found = []
    for told_from, (view, of) in VIEWS.items():
        seen = of(rows)
        if seen.sum() < LEAST_ROWS or any(
            len(np.unique(r.labels[seen])) < 2 for r in (rows, shuffled)
        ):
            continue
        real, chance = (_auc(view(r), r, seen) for r in (rows, shuffled))
        found.append(LabelOrder(told_from, real, chance))
    return max(found, key=lambda order: order.share, default=None)


def _auc(codes: Codes, rows: LabelRows, seen: Bools) -> float:
    """Of rates by code, counted from the users of one half and tried on the other."""
    labels, size = rows.labels.astype(np.float64), int(codes.max()) + 1
    scores, overall, odd = np.zeros(len(labels)), labels[seen].mean(), rows.owners % 2 == 1
    for counted, tried in ((odd & seen, ~odd), (~odd & seen, odd)):
        count = np.bincount(codes[counted], minlength=size)
        positive = np.bincount(codes[counted], weights=labels[counted], minlength=size)
        scores[tried] = ((positive + SMOOTHING * overall) / (count + SMOOTHING))[codes[tried]]
    return exact_auc(rows.labels[seen], scores[seen])


def _by_neighbours(rows: LabelRows) -> Codes:
    """The label of the row before and how long it had been that, and the same of the row after."""
    kinds = 2 * LONGEST_RUN + 1
    before = _run_before(rows.owners, rows.labels)
    after = _run_before(rows.owners[::-1], rows.labels[::-1])[::-1]
    return before * kinds + after


def _run_before(owners: Codes, labels: NDArray[np.int8]) -> Codes:
    """0 at a user's first row, else 1 + label * LONGEST_RUN + the run's length - 1."""
    goes_on = np.zeros(len(labels), dtype=bool)
    goes_on[1:] = (labels[1:] == labels[:-1]) & (owners[1:] == owners[:-1])
    places = np.arange(len(labels))
    begin = np.maximum.accumulate(np.where(goes_on, 0, places))
    run = np.minimum(places - begin, LONGEST_RUN - 1)
    codes = np.zeros(len(labels), dtype=np.int64)
    follows = owners[1:] == owners[:-1]
    codes[1:] = np.where(follows, 1 + labels[:-1].astype(np.int64) * LONGEST_RUN + run[:-1], 0)
    return codes


def _by_same_second(rows: LabelRows) -> Codes:
    """Of the rows of the same time: how many, how many positive, and the labels on both sides."""
    labels = rows.labels.astype(np.int64)
    second = np.cumsum(~rows.same_time) - 1
    positive = np.bincount(second, weights=labels)[second].astype(np.int64)
    others = np.minimum(np.bincount(second)[second] - 1, LONGEST_RUN)
    liked = np.minimum(positive - labels, 3)
    before, after = np.full(len(labels), 2), np.full(len(labels), 2)
    before[1:] = np.where(rows.same_time[1:], labels[:-1], 2)
    after[:-1] = np.where(rows.same_time[1:], labels[1:], 2)
    return np.asarray(((liked * (LONGEST_RUN + 1) + others) * 3 + before) * 3 + after)


def _all_rows(rows: LabelRows) -> Bools:
    return np.ones(len(rows.labels), dtype=bool)


def _sharing_rows(rows: LabelRows) -> Bools:
    """Which rows share their time with another of the user."""
    return np.asarray(rows.same_time | np.append(rows.same_time[1:], False))


View = tuple[Callable[[LabelRows], Codes], Callable[[LabelRows], Bools]]
VIEWS: Mapping[str, View] = {  # what a label is told from: codes, and the rows that have any
    "the labels of the rows before and after": (_by_neighbours, _all_rows),
    "the labels of the user's rows of the same time": (_by_same_second, _sharing_rows),
}

"""Cuts histories into records: the split of every user, training windows, evaluation windows.

With ``k = holdout``: a user's last k interactions are the test, the k before are the validation,
the rest is training. Who has no more than 2 k is too short for the split: they train on all they
have and are never tested. With k = 0 all rows of all users train but those of a share of users,
whose last interaction is the validation. Everything is computed for all given users at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset
from mrff.data.errors import DataError

NO_FEEDBACK = 0  # at the start of a history and at padding; otherwise 1 + label

Users = NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """Windows of users, ``(U, W, L)`` each: users, windows of a user, positions, padded right.

    A position holds the history item before its target and the feedback given to that item; at
    the first position of a window there is none (0). ``real`` says that a position exists,
    ``mask`` that its target counts (evaluation counts only the held-out ones).
    """

    items: NDArray[np.int64]  # history item; 0 at the start and at padding
    feedback: NDArray[np.int64]  # 0 none, 1 label 0, 2 label 1
    targets: NDArray[np.int64]  # item to predict; 0 at padding
    labels: NDArray[np.float32]  # its label; 0 at padding
    mask: NDArray[np.bool_]
    real: NDArray[np.bool_]
    first: NDArray[np.int64]  # (U,) number of the interaction that each user's records begin with
    times: NDArray[np.int64] | None  # of the targets, 0 at padding; None where nobody reads them

    @property
    def rows(self) -> NDArray[np.int64]:
        """(U, W, L) number of the interaction that is the target; any where nothing is real."""
        lengths = self.real.sum(-1)  # (U, W), of windows that follow each other
        starts = self.first[:, None] + lengths.cumsum(1) - lengths
        return starts[..., None] + np.arange(self.real.shape[-1])


def eligible_users(dataset: Dataset, *, holdout: int) -> Users:
    """Rows of the users who can be tested: with at least ``2 * holdout + 1`` interactions."""
    _check("holdout", holdout, 0)
    return np.flatnonzero(_is_eligible(dataset, holdout))


def is_chosen(keys: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """(U,) whether a user belongs to a ``share`` of all by their key, which is a hash of them.

    So they are the same ones on every node, in every layout and in every run.
    """
    return np.asarray((keys >> np.uint64(11)) < share * 2.0**53)


def validation_users(dataset: Dataset, share: float) -> Users:
    """Rows of the users who validate by their last interaction, and do not train, with k = 0.

    They are chosen by `is_chosen`; those with fewer than three interactions train.
    """
    return np.flatnonzero(is_chosen(dataset.user_keys, share) & _is_eligible(dataset, 1))


def training_users(dataset: Dataset) -> Users:
    """Rows of the users who have anything to train on, those too short for the split included."""
    return np.flatnonzero(np.diff(dataset.offsets))


def tested_first(dataset: Dataset, *, holdout: int) -> Users:
    """Rows of everybody who trains; `eligible_users`, who are tested, come first."""
    tested = eligible_users(dataset, holdout=holdout)
    return np.concatenate([tested, np.setdiff1d(training_users(dataset), tested)])


def train_sizes(dataset: Dataset, users: Users, *, holdout: int) -> NDArray[np.int64]:
    """(U,) interactions of the training part, which begins with a user's first one."""
    _check("holdout", holdout, 0)
    sizes: NDArray[np.int64] = np.diff(dataset.offsets)[users]
    return np.where(_is_eligible(dataset, holdout)[users], sizes - 2 * holdout, sizes)


def teaches(
    dataset: Dataset, users: Users, rows: NDArray[np.int64], *, holdout: int
) -> NDArray[np.bool_]:
    """Whether the labels of ``rows`` (U, ...) of users' training parts are known to their models.

    Where labels are known at later times only, those of the time of the first held-out row are
    not: a model that learned them would be tested with labels that come later.
    """
    if dataset.times is None or dataset.knows_same_time:
        return np.ones(rows.shape, dtype=bool)
    times, end = dataset.times, dataset.offsets[users + 1]
    first = dataset.offsets[users] + train_sizes(dataset, users, holdout=holdout)  # held out
    never = np.iinfo(np.int64).max
    until = np.where(first < end, times[np.minimum(first, len(times) - 1)], never)
    until = until.reshape(-1, *[1] * (rows.ndim - 1))
    return np.asarray(until > times[np.minimum(rows, len(times) - 1)])


def nobody_fits(holdout: int) -> str:
    """What is wrong where no user is eligible, and the way out."""
    needed = 2 * holdout + 1
    return (
        f"no user has the {needed} interactions that a holdout of {holdout} needs; "
        f"use a smaller holdout"
    )


def train_records(
    dataset: Dataset, users: Users, *, length: int, max_windows: int, holdout: int
) -> Records:
    """The training part as disjoint windows of at most ``length`` targets, in time order.

    It is cut from its end, so that the latest windows are full; only the latest ``max_windows``
    are kept (0: all). Every window starts anew: an interaction is in exactly one record, which
    is what record-level privacy counts. W and L are the most that the given users need. Targets
    that do not teach (`teaches`) do not count.

    Raises:
        DataError: settings out of range.
    """
    _check("length", length, 1)
    _check("max-windows", max_windows, 0)
    sizes = train_sizes(dataset, users, holdout=holdout)  # (U,)
    windows = -(-sizes // length)
    kept = windows if max_windows == 0 else np.minimum(windows, max_windows)
    number = np.arange(kept.max(initial=0))  # (W,)
    from_end = (kept[:, None] - 1 - number) * length  # (U, W) targets after this window
    ends = sizes[:, None] - from_end
    starts = np.maximum(ends - length, 0)
    lengths = np.where(number < kept[:, None], ends - starts, 0)
    first = dataset.offsets[users][:, None] + starts
    records = _gather(dataset, first, lengths, counted=None)
    if dataset.knows_same_time:
        return records
    taught = teaches(dataset, users, records.rows, holdout=holdout)
    return replace(records, mask=records.mask & taught)


def first_of_time(dataset: Dataset) -> NDArray[np.int64]:
    """(N,) the interaction before which all labels are known when each one is predicted.

    It is the row itself, or the user's first one of the same time where labels are known at later
    times only (``data.same-time = "unknown"``).
    """
    rows = np.arange(len(dataset.items))
    if dataset.times is None or dataset.knows_same_time:
        return rows
    is_later = np.diff(dataset.times, prepend=-1) != 0
    is_later[dataset.offsets[dataset.offsets < len(rows)]] = True
    return np.asarray(np.maximum.accumulate(np.where(is_later, rows, 0)))


def evaluation_records(
    dataset: Dataset, users: Users, *, length: int, holdout: int, part: Literal["valid", "test"]
) -> Records:
    """One window per user: the last ``length`` interactions that end with the part's last one.

    Only the part's ``holdout`` targets count; the others are there as history.

    Raises:
        DataError: a user shorter than the split, or settings out of range.
    """
    check_part(part, holdout)
    _check("length", length, holdout)
    ends = _sizes(dataset, users, holdout) - (holdout if part == "valid" else 0)
    starts = np.maximum(ends - length, 0)
    first = dataset.offsets[users] + starts
    return _gather(dataset, first[:, None], (ends - starts)[:, None], counted=holdout)


def items_before(dataset: Dataset, users: Users, first: NDArray[np.int64], most: int) -> Any:
    """The latest ``most`` items of users (U,) before the interactions ``first`` (U,).

    Returns:
        (U, E) int64, E the most that any of them has, but at least 1; 0 where there are fewer.
    """
    rows = rows_before(dataset, users, first, most)
    return np.where(rows >= 0, dataset.items[rows], 0).astype(np.int64)


def rows_before(
    dataset: Dataset, users: Users, first: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """The numbers of these interactions, as in `items_before`; -1 where there are fewer."""
    begin = np.maximum(dataset.offsets[users], first - most)
    lengths = first - begin
    positions = np.arange(max(1, lengths.max(initial=0)))
    return np.where(positions < lengths[:, None], begin[:, None] + positions, -1)


def check_part(part: str, holdout: int) -> None:
    """Raises DataError unless ``part`` names one of two held-out parts that exist."""
    if part not in ("valid", "test"):
        raise DataError(f"part must be valid or test, got {part!r}")
    _check("holdout", holdout, 1)


def _is_eligible(dataset: Dataset, holdout: int) -> NDArray[np.bool_]:
    """(U,) of all users."""
    long_enough: NDArray[np.bool_] = np.diff(dataset.offsets) >= 2 * holdout + 1
    return long_enough if dataset.only_train is None else long_enough & ~dataset.only_train


def _sizes(dataset: Dataset, users: Users, holdout: int) -> NDArray[np.int64]:
    _check("holdout", holdout, 0)
    sizes = np.diff(dataset.offsets)[users]
    short = np.flatnonzero(sizes < 2 * holdout + 1)
    if len(short):
        raise DataError(
            f"user {dataset.user_ids[users[short[0]]]} has {sizes[short[0]]} interactions, a "
            f"holdout of {holdout} needs at least {2 * holdout + 1}; take only eligible users"
        )
    return sizes


def _gather(
    dataset: Dataset,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    counted: int | None,
) -> Records:
    """Records of windows given as (U, W) first interactions and lengths."""
    positions = np.arange(lengths.max(initial=0))  # (L,)
    real = positions < lengths[..., None]  # (U, W, L)
    rows = np.where(real, starts[..., None] + positions, 0)
    targets = np.where(real, dataset.items[rows], 0).astype(np.int64)
    labels = np.where(real, dataset.labels[rows], 0)
    items, feedback = np.zeros_like(targets), np.zeros_like(targets)
    follows = real[..., 1:]
    items[..., 1:] = np.where(follows, targets[..., :-1], 0)
    feedback[..., 1:] = np.where(follows, labels[..., :-1].astype(np.int64) + 1, NO_FEEDBACK)
    mask = real if counted is None else real & (positions >= lengths[..., None] - counted)
    return Records(
        items=items,
        feedback=feedback,
        targets=targets,
        labels=labels.astype(np.float32),
        mask=mask,
        real=real,
        first=starts[:, 0] if starts.size else np.zeros(len(starts), dtype=np.int64),
        times=None if dataset.times is None else np.where(real, dataset.times[rows], 0),
    )


def _check(name: str, value: Any, low: int) -> None:
    if value < low:
        raise DataError(f"{name} must be at least {low}, got {value}")

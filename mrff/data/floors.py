"""What a model has to beat: rates counted from the pooled training rows, on the same split.

A rate is smoothed with ``SMOOTHING`` rows at the overall click rate g: (positives + 5 g) / (n + 5).
Factors combine on the logit scale, so that the result is a probability:

* user rate: r_u
* user x item rate: sigmoid(logit r_u + logit r_i - logit g)
* user x feature rates: sigmoid(logit r_u + 1/2 sum_f (logit r_f - logit g)) over the item's
  features other than its id (mean over the values of a multi-valued one)

They pool the users' data, which federated training never does: they are yardsticks, not methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import Dataset
from mrff.data.errors import DataError
from mrff.data.windows import check_part, eligible_users, nobody_fits, teaches

SMOOTHING = 5.0  # rows; about the best of 1, 2, 5, 10, 20 on ml-100k and kuaisar-r

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Floor:
    """One predictor's area under the ROC curve and log loss (natural, per target)."""

    auc: float
    log_loss: float


@dataclass(frozen=True)
class Floors:
    """The floors of one split."""

    targets: int  # rows they are measured on
    users: int  # and whose rows these are
    user: Floor
    user_item: Floor
    user_features: Floor | None = None  # None: items have an id and nothing else


@dataclass(frozen=True)
class Split:
    """Rows of a dataset (N,) by the part they belong to; users too short for it only train."""

    users: NDArray[np.int64]  # (U,) who are tested
    owner: NDArray[np.int64]  # (N,) user row
    train: NDArray[np.bool_]  # but for those that do not teach (`mrff.data.windows.teaches`)
    held_out: NDArray[np.bool_]  # of each eligible user k rows, in time order


@dataclass(frozen=True)
class Predictions:
    """Logits by predictor for the k held-out rows of U users, and the labels: (U, k) each."""

    users: NDArray[np.int64]  # (U,) rows in the dataset
    labels: NDArray[np.int8]
    logits: dict[str, Floats]


def split_rows(dataset: Dataset, *, holdout: int, part: Literal["valid", "test"]) -> Split:
    """Which rows train and which are the part's; DataError if no user is long enough."""
    check_part(part, holdout)
    users = eligible_users(dataset, holdout=holdout)
    if not len(users):
        raise DataError(nobody_fits(holdout))
    sizes = np.diff(dataset.offsets)
    owner = np.repeat(np.arange(dataset.num_users), sizes)  # (N,)
    to_come = dataset.offsets[owner + 1] - np.arange(len(owner))  # 1 at a user's last row
    eligible = np.isin(np.arange(dataset.num_users), users)[owner]
    first, last = (2 * holdout, holdout) if part == "valid" else (holdout, 0)
    return Split(
        users=users,
        owner=owner,
        train=(~eligible | (to_come > 2 * holdout))
        & teaches(dataset, owner, np.arange(len(owner)), holdout=holdout),
        held_out=eligible & (to_come <= first) & (to_come > last),
    )


def refuse_events(dataset: Dataset) -> None:
    """Raises DataError for data without labels: what predicts labels has nothing to predict."""
    if dataset.schema.kind == "events":
        raise DataError(
            f"{dataset.schema.name} has events without labels, and rates, trees and AUC need "
            "labels; use what ranks the next item"
        )


def predict_by_rates(
    dataset: Dataset, *, holdout: int, part: Literal["valid", "test"]
) -> Predictions:
    """Every floor's logits; ``user_features`` is absent where items have an id and nothing else.

    Raises:
        DataError: no user is long enough, or rows have no labels.
    """
    refuse_events(dataset)
    split = split_rows(dataset, holdout=holdout, part=part)
    owner, train, held_out = split.owner, split.train, split.held_out
    labels = dataset.labels[train].astype(np.float64)
    overall = float((labels.sum() + 0.5) / (len(labels) + 1))  # never exactly 0 or 1

    def lift(codes: NDArray[Any]) -> Floats:
        """logit of the smoothed rate minus logit g for the held-out rows; codes (N, width)."""
        return _lift(codes[train], labels, codes[held_out], overall)

    base = _logit(overall) + lift(owner[:, None] + 1)
    logits = {"user": base, "user_item": base + lift(dataset.items[:, None])}
    by_feature = [
        lift(dataset.item_features[feature.name][dataset.items].reshape(len(owner), -1))
        for feature in dataset.schema.item_features
        if feature.kind != "id"
    ]
    if by_feature:
        logits["user_features"] = base + 0.5 * sum(by_feature)
    shape = (len(split.users), holdout)
    return Predictions(
        users=split.users,
        labels=dataset.labels[held_out].reshape(shape),
        logits={name: values.reshape(shape) for name, values in logits.items()},
    )


def floors(dataset: Dataset, *, holdout: int, part: Literal["valid", "test"]) -> Floors:
    """Counts rates over everybody's training rows and scores the part's rows.

    Raises:
        DataError: no user is long enough, rows have no labels, or the part has only one class.
    """
    found = predict_by_rates(dataset, holdout=holdout, part=part)
    scored = {name: floor_of(found.labels, logits) for name, logits in found.logits.items()}
    return Floors(targets=found.labels.size, users=len(found.users), **scored)


def floor_of(labels: NDArray[Any], logits: Floats) -> Floor:
    """Both measures of logits of any shape; DataError if there is one class only."""
    loss = np.logaddexp(0.0, np.where(labels > 0, -logits, logits)).mean()
    return Floor(exact_auc(labels.ravel(), logits.ravel()), float(loss))


def exact_auc(labels: NDArray[Any], scores: Floats) -> float:
    """The probability that a positive scores above a negative; ties count half."""
    values, inverse = np.unique(scores, return_inverse=True)
    positive = np.bincount(inverse, weights=labels, minlength=len(values))
    negative = np.bincount(inverse, minlength=len(values)) - positive
    auc = auc_of_counts(negative, positive)
    if auc is None:
        raise DataError(
            f"AUC needs both classes, the {len(labels)} held-out rows have one; "
            f"use a larger holdout or another label rule"
        )
    return auc


def auc_of_counts(negative: NDArray[Any], positive: NDArray[Any]) -> float | None:
    """AUC of rows counted by score, lowest first; None if there is one class only."""
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def _lift(codes: NDArray[Any], labels: Floats, wanted: NDArray[Any], overall: float) -> Floats:
    """Counts rates per code over (n, width) training codes; means over (m, width) wanted ones.

    Code 0 is padding: it neither counts nor lifts.
    """
    used = codes > 0
    flat = codes[used]
    size = int(max(codes.max(initial=0), wanted.max(initial=0))) + 1
    count = np.bincount(flat, minlength=size)
    weights = np.broadcast_to(labels[:, None], used.shape)[used]
    positive = np.bincount(flat, weights=weights, minlength=size)
    lifts = _logit((positive + SMOOTHING * overall) / (count + SMOOTHING)) - _logit(overall)
    lifts[0] = 0.0
    return np.asarray(lifts[wanted].sum(axis=1) / np.maximum((wanted > 0).sum(axis=1), 1))


def _logit(rate: Any) -> Any:
    return np.log(rate / (1 - rate))

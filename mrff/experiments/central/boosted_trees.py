"""The strongest floor: gradient-boosted trees on everybody's rates and features (scikit-learn).

Trees are fitted to the training rows only. What they read of a row is honest, so that a row's own
label is never among its inputs, nor any later one of the same user:

* the user's rate and count over the earlier interactions and, with ``history``, over the latest
  ten of them, the last one, and those with the same value of an item feature. As in the network's
  history, an earlier held-out interaction counts as history of a later one
* of the item and of its features, rates over the training rows of other users: those of four fifths
  of the users for a training row (target encoding out of fold), of all for a held-out one
* the codes of bucketed item features and of the user's own features

They pool the users' data, which federated training never does: a yardstick, not a method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.data.floors import SMOOTHING, Floats, Split, floor_of, refuse_events, split_rows
from mrff.data.windows import first_of_time
from mrff.experiments.central import Note, Predicted, nobody

FOLDS = 5
LATEST = 10  # interactions that tell of a user's present mood
MOST_TREES = 400
EVERY = 10  # trees between looks at the validation part
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 50,
    "l2_regularization": 10.0,
}


@dataclass(frozen=True)
class KnownLabels:
    """Whose each row is, and which labels are known there; (N,) each, in order of users."""

    owner: NDArray[np.int64]
    until: NDArray[np.int64]  # the user's rows before this one; see `first_of_time`
    labels: Floats


def predict_by_trees(
    dataset: Dataset, config: RunConfig, note: Note = nobody, *, history: bool
) -> Predicted:
    """Fits trees, keeps as many as give the best validation AUC, and predicts the test part.

    Args:
        note: told of the number of trees, validation AUC and log loss at every look.
        history: whether trees see what the user liked lately, and of the same kind.

    Raises:
        DataError: no user is long enough, rows have no labels, or the validation part has one class
            only.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # heavy

    refuse_events(dataset)
    holdout, seed = config.data.holdout, config.training.seed % 2**32
    valid, test = (split_rows(dataset, holdout=holdout, part=part) for part in ("valid", "test"))
    inputs = row_inputs(dataset, valid, history=history)
    trees = HistGradientBoostingClassifier(
        max_iter=MOST_TREES, early_stopping=False, random_state=seed, **SETTINGS
    )
    trees.fit(inputs[valid.train], dataset.labels[valid.train])

    truth = dataset.labels[valid.held_out]
    seen: dict[int, float] = {}
    for count, logits in enumerate(_staged(trees, inputs[valid.held_out]), start=1):
        if count % EVERY == 0:
            look = floor_of(truth, logits)
            note(count, {"auc": look.auc, "log_loss": look.log_loss})
            seen[count] = look.auc
    best = max(seen, key=lambda count: seen[count])
    logits = next(islice(_staged(trees, inputs[test.held_out]), best - 1, None))
    labels = dataset.labels[test.held_out].reshape(-1, holdout)
    return Predicted(test.users, labels, logits.reshape(labels.shape), best)


def row_inputs(dataset: Dataset, split: Split, *, history: bool) -> Floats:
    """(N, inputs) of every row; missing ones are NaN. Training rows are those of ``split``."""
    owner, labels = split.owner, dataset.labels.astype(np.float64)
    overall = float((labels[split.train].sum() + 0.5) / (split.train.sum() + 1))
    everything = np.ones((len(owner), 1), dtype=np.int64)
    known = KnownLabels(owner, first_of_time(dataset), labels)
    user_rate, user_count = _earlier(known, everything, overall)
    columns = [user_rate, user_count, *(_latest(known) if history else ())]
    for feature in dataset.schema.item_features:
        codes = dataset.item_features[feature.name][dataset.items].reshape(len(owner), -1)
        columns += _of_others(codes, labels, split, overall)
        if history and feature.kind != "id":
            rate, count = _earlier(known, codes, overall)
            columns += [rate - user_rate, count]
        if feature.kind == "bucket":
            columns.append(np.where(codes[:, 0] > 0, codes[:, 0], np.nan))
    if all(feature.kind != "id" for feature in dataset.schema.item_features):
        columns += _of_others(dataset.items[:, None], labels, split, overall)
    for feature in dataset.schema.user_features:
        if feature.kind != "multi":
            codes = dataset.user_features[feature.name][owner]
            columns.append(np.where(codes > 0, codes, np.nan))
    return np.stack(columns, axis=1).astype(np.float64)


def _staged(trees: Any, inputs: Floats) -> Iterator[Floats]:
    """Logits after one tree, two, ..."""
    return (stage.ravel() for stage in trees.staged_decision_function(inputs))


def _earlier(known: KnownLabels, codes: NDArray[Any], overall: float) -> tuple[Floats, Floats]:
    """The user's smoothed rate (as a logit) and count over earlier rows with the same code.

    Args:
        codes: (N, width); 0 is padding. Several values of a row are averaged.
    """
    codes = np.sort(codes, axis=1)
    again = np.diff(codes, axis=1, prepend=-1) == 0  # a value named twice would see its own label
    rows, places = np.nonzero((codes > 0) & ~again)  # in the order of rows, hence of time
    keys = known.owner[rows] * (int(codes.max(initial=0)) + 1) + codes[rows, places]
    counts, positives = _before(keys, known.until[rows], known.labels[rows])
    rates, total = _smoothed(positives, counts, overall), len(codes)
    return _mean_of_rows(rows, rates, total), _mean_of_rows(rows, counts, total)


def _before(keys: NDArray[Any], until: NDArray[np.int64], labels: Floats) -> tuple[Floats, Floats]:
    """Known rows and positive ones before each one among those of the same key."""
    alike = pd.Series(labels).groupby(keys)
    counts = np.asarray(alike.cumcount(), dtype=np.float64)
    before = pd.DataFrame({"rows": counts, "positive": alike.cumsum().to_numpy() - labels})
    before = before.groupby([keys, until]).transform("first")  # as at the first of their time
    return before["rows"].to_numpy(), before["positive"].to_numpy()


def _latest(known: KnownLabels) -> list[Floats]:
    """Mean of the user's latest known labels before each row, and the very last one."""
    until, labels = known.until, known.labels
    place = until - np.searchsorted(known.owner, known.owner)  # of so many are labels known
    sums = np.r_[0.0, np.cumsum(labels)]
    taken = np.minimum(place, LATEST)
    with np.errstate(invalid="ignore"):
        mean = np.where(
            taken > 0, (sums[until] - sums[until - taken]) / np.maximum(taken, 1), np.nan
        )
    last = np.where(taken > 0, labels[until - 1], np.nan)
    return [mean, last]


def _of_others(codes: NDArray[Any], labels: Floats, split: Split, overall: float) -> list[Floats]:
    """Smoothed rate (as a logit) and count of a code over training rows of other users."""
    fold = split.owner % FOLDS
    size = int(codes.max(initial=0)) + 1
    rows, places = np.nonzero(codes)
    values = codes[rows, places].astype(np.int64)
    trained = split.train[rows]
    at = fold[rows[trained]], values[trained]
    counts, positives = np.zeros((FOLDS, size)), np.zeros((FOLDS, size))
    np.add.at(counts, at, 1.0)
    np.add.at(positives, at, labels[rows[trained]])
    own = np.where(trained, 1.0, 0.0)  # a held-out row needs no fold to be left out
    count = counts.sum(0)[values] - own * counts[fold[rows], values]
    positive = positives.sum(0)[values] - own * positives[fold[rows], values]
    rates = _smoothed(positive, count, overall)
    return [_mean_of_rows(rows, part, len(codes)) for part in (rates, count)]


def _smoothed(positive: Floats, count: Floats, overall: float) -> Floats:
    rate = (positive + SMOOTHING * overall) / (count + SMOOTHING)
    return np.asarray(np.log(rate / (1.0 - rate)))


def _mean_of_rows(rows: NDArray[np.int64], values: Floats, total: int) -> Floats:
    """Mean of the values of each row; NaN for a row without any."""
    count = np.bincount(rows, minlength=total)
    sums = np.bincount(rows, weights=values, minlength=total)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

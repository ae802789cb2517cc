"""Logistic regression and boosted trees on what the head of a network reads, on all rows at once.

They say what the inputs are worth: a network that reads them should not do worse. What validation
chooses is the regression's penalty, or a number of trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset
from mrff.data.errors import DataError
from mrff.data.floors import Floats, floor_of, refuse_events, split_rows
from mrff.experiments.central import Note, Predicted, nobody
from mrff.experiments.central.inputs import InputRows, Inputs

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # C, the inverse of what weights are pulled by
MOST_TREES, EVERY = 800, 20  # trees, and between looks at the validation part
LEARNING_RATE, LEAF_ROWS, L2 = 0.05, 50, 10.0


@dataclass(frozen=True)
class Point:
    """A model that validation may choose."""

    step: int  # of the grid from 1, or the number of trees
    logits: Callable[[InputRows], Floats]  # (n,) of n rows


Fit = Callable[[InputRows, int], Iterator[Point]]
"""Fits models to rows, by a seed."""


def predict_by_inputs(
    fit: Fit, dataset: Dataset, config: RunConfig, note: Note = nobody
) -> Predicted:
    """The test part by the model with the best validation AUC.

    Raises:
        ConfigError: a package is missing, or clicks are not learned.
        DataError: no user is long enough, rows have no labels, or they are of one class only.
    """
    refuse_events(dataset)
    users = split_rows(dataset, holdout=config.data.holdout, part="valid").users
    inputs = Inputs(dataset, config)
    train = inputs.training()
    valid, test = inputs.held_out()
    if not train.matrix.shape[1]:
        raise ConfigError(
            "network.history-rates=false leaves no inputs for a model to be fitted to; use "
            "network.history-rates=true or network.item-statistics=true"
        )
    if len(np.unique(train.labels)) < 2:
        raise DataError(
            f"the {len(train.labels)} training rows have labels of one class, a model needs both; "
            "use another label rule"
        )
    best, chosen = -1.0, None
    for point in fit(train, config.training.seed % 2**31):
        look = floor_of(valid.labels, point.logits(valid))
        note(point.step, {"auc": look.auc, "log_loss": look.log_loss})
        if look.auc > best:
            best, chosen = look.auc, point
    assert chosen is not None
    shape = (len(users), config.data.holdout)
    logits = chosen.logits(test).reshape(shape)
    return Predicted(users, test.labels.reshape(shape), logits, chosen.step)


def by_logistic(train: InputRows, seed: int) -> Iterator[Point]:
    """A point for each of `PENALTIES`; codes become one column per value."""
    from sklearn.compose import ColumnTransformer  # heavy
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    width = train.numbers.shape[1]
    places = np.arange(width + train.codes.shape[1])
    for step, penalty in enumerate(PENALTIES, start=1):
        columns = ColumnTransformer(
            [
                ("numbers", StandardScaler(), places[:width]),
                ("codes", OneHotEncoder(handle_unknown="ignore"), places[width:]),
            ]
        )
        model = make_pipeline(columns, LogisticRegression(C=penalty, max_iter=1000))
        model.fit(_side_by_side(train), train.labels)
        yield Point(step, partial(_decided, model))


def by_lightgbm(train: InputRows, seed: int) -> Iterator[Point]:
    """Trees that grow by their best leaf (Ke et al., NeurIPS 2017)."""
    try:
        import lightgbm as package  # an extra
    except ImportError:
        raise _missing("lightgbm") from None
    settings = {
        "objective": "binary", "learning_rate": LEARNING_RATE, "num_leaves": 15,
        "min_data_in_leaf": LEAF_ROWS, "lambda_l2": L2, "seed": seed, "deterministic": True,
        "force_row_wise": True, "num_threads": torch.get_num_threads(), "verbose": -1,
    }  # fmt: skip
    model = package.train(settings, package.Dataset(train.matrix, train.labels), MOST_TREES)

    def logits(trees: int, rows: InputRows) -> Floats:
        return np.asarray(model.predict(rows.matrix, num_iteration=trees, raw_score=True))

    return (Point(trees, partial(logits, trees)) for trees in _looks())


def by_catboost(train: InputRows, seed: int) -> Iterator[Point]:
    """Symmetric trees with ordered boosting (Prokhorenkova et al., NeurIPS 2018)."""
    try:
        from catboost import CatBoostClassifier  # an extra
    except ImportError:
        raise _missing("catboost") from None
    model = CatBoostClassifier(
        iterations=MOST_TREES, learning_rate=LEARNING_RATE, l2_leaf_reg=L2, random_seed=seed,
        thread_count=torch.get_num_threads(), allow_writing_files=False, verbose=False,
    )  # fmt: skip
    model.fit(train.matrix, train.labels)

    def logits(trees: int, rows: InputRows) -> Floats:
        found = model.predict(rows.matrix, prediction_type="RawFormulaVal", ntree_end=trees)
        return np.asarray(found)

    return (Point(trees, partial(logits, trees)) for trees in _looks())


def _looks() -> range:
    return range(EVERY, MOST_TREES + 1, EVERY)


def _side_by_side(rows: InputRows) -> Floats:
    return np.hstack([rows.numbers, rows.codes])


def _decided(model: Any, rows: InputRows) -> NDArray[Any]:
    return np.asarray(model.decision_function(_side_by_side(rows)))


def _missing(package: str) -> ConfigError:
    """Packages are an extra, since only comparisons want them."""
    return ConfigError(
        f"method {package}-inputs needs the package {package}, which is not installed; "
        "pip install 'mrff[rivals]', or leave the method out"
    )

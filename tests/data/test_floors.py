"""Floors: the arithmetic on numbers one can check, AUC against scikit-learn, real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import exact_auc, floors
from tests.support.small_folders import alternating, write


def test_by_hand(tmp_path: Path) -> None:
    """Two users, holdout 1: the first two rows of each are training, the last is the test.

    Training: user 0 item 1 yes, item 2 yes; user 1 item 1 no, item 2 no. g = 2.5 / 5 = 1/2.
    User rates (2 + 2.5) / 7 = 9/14 and 2.5 / 7 = 5/14. Item 1 has rate 1/2, item 3 was never
    seen: nothing to add. Features: item 1 is {red, blue}, item 3 has no genre.
    """
    histories = [[(1, 1), (2, 1), (4, 0), (3, 1)], [(1, 0), (2, 0), (4, 0), (1, 0)]]
    write(tmp_path, histories)
    found = floors(load_dataset(tmp_path), holdout=1, part="test")
    assert found.targets == 2
    assert found.users == 2
    assert found.user.auc == 1.0
    assert found.user.log_loss == pytest.approx(-np.log(9 / 14))
    assert found.user_item.log_loss == pytest.approx(-np.log(9 / 14))
    assert found.user_features is not None
    assert found.user_features.log_loss == pytest.approx(-np.log(9 / 14))


def test_item_rates_add_as_logits(tmp_path: Path) -> None:
    """Items 1 (always yes) and 2 (always no), equally often: r = 7.5/10 and 2.5/10, g = 1/2."""
    histories = [[(1, 1), (2, 0)] * 5 + [(1, 1), (1, 1)], [(2, 0), (1, 1)] * 5 + [(1, 1), (2, 0)]]
    write(tmp_path, histories)
    found = floors(load_dataset(tmp_path), holdout=1, part="test")
    assert found.user.auc == 0.5
    assert found.user.log_loss == pytest.approx(np.log(2))
    assert found.user_item.auc == 1.0
    assert found.user_item.log_loss == pytest.approx(-np.log(12.5 / 15))


def test_users_shorter_than_the_split_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, [*alternating(4, 5), [(1, 1), (1, 1)]])
    dataset = load_dataset(tmp_path)
    assert floors(dataset, holdout=1, part="test").users == 2
    with pytest.raises(DataError, match="no user has the 7 interactions that a holdout of 3 needs"):
        floors(dataset, holdout=3, part="test")


def test_one_class_has_no_auc(tmp_path: Path) -> None:
    write(tmp_path, [[(1, 1)] * 4])
    with pytest.raises(DataError, match="AUC needs both classes, the 1 held-out rows have one"):
        floors(load_dataset(tmp_path), holdout=1, part="test")


def test_bad_arguments(tmp_path: Path) -> None:
    write(tmp_path, alternating(4, 5))
    dataset = load_dataset(tmp_path)
    with pytest.raises(DataError, match="holdout must be at least 1, got 0"):
        floors(dataset, holdout=0, part="test")
    with pytest.raises(DataError, match="part must be valid or test"):
        floors(dataset, holdout=1, part="train")  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=60))
def test_auc_is_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    labels = np.array([label for label, _ in rows])
    scores: NDArray[np.float64] = np.array([float(score) for _, score in rows])
    if labels.all() or not labels.any():
        with pytest.raises(DataError, match="both classes"):
            exact_auc(labels, scores)
    else:
        assert exact_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_floors_are_scored_as_scikit_learn_would(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    histories = [
        [(int(random.integers(1, 5)), int(random.integers(0, 2))) for _ in range(9)]
        for _ in range(20)
    ]
    write(tmp_path, histories)
    dataset = load_dataset(tmp_path)
    found = floors(dataset, holdout=2, part="valid")
    train = np.array([[label for _, label in history[:5]] for history in histories])
    truth = np.array([[label for _, label in history[5:7]] for history in histories]).ravel()
    overall = (train.sum() + 0.5) / (train.size + 1)
    rates = np.repeat((train.sum(axis=1) + 5 * overall) / (5 + 5), 2)
    assert found.user.auc == pytest.approx(roc_auc_score(truth, rates))
    assert found.user.log_loss == pytest.approx(log_loss(truth, rates))

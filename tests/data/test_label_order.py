"""Labels that follow from the order of rows: found where planted, not where people are at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrff.data.label_order import (
    LEAST_ROWS,
    LONGEST_RUN,
    VIEWS,
    LabelOrder,
    LabelRows,
    first_rows,
    label_order,
)
from mrff.data.prepare import prepare
from tests.support.shared_data import shared_data

NEIGHBOURS, SAME_TIME = VIEWS
RANDOM = np.random.default_rng(3)
Block = Callable[[], Sequence[int]]  # labels of rows that are put in at once


def rows_of(block: Block, *, tied: bool, users: int = 100, blocks: int = 20) -> LabelRows:
    """Users with so many blocks each; the rows of a block have one time where ``tied``."""
    made = [(user, block()) for user in range(users) for _ in range(blocks)]
    owners = np.concatenate([np.full(len(labels), user) for user, labels in made])
    labels = np.concatenate([labels for _, labels in made])
    again = np.concatenate([np.arange(len(labels)) > 0 for _, labels in made]) & tied
    return LabelRows(owners, labels.astype(np.int8), again)


def shuffled(*labels: int) -> Sequence[int]:
    return [int(label) for label in RANDOM.permutation(labels)]


def drawn(number: int) -> Sequence[int]:
    return [int(label) for label in RANDOM.integers(0, 2, number)]


def test_codes_by_hand() -> None:
    labels = np.array([1, 1, 0, 1], dtype=np.int8)  # the last one of another user
    rows = LabelRows(np.array([0, 0, 0, 1]), labels, np.array([False, True, False, False]))
    before, after = np.divmod(VIEWS[NEIGHBOURS][0](rows), 2 * LONGEST_RUN + 1)
    first, second = 1 + LONGEST_RUN, 2 + LONGEST_RUN  # of a run of positives
    assert before.tolist() == [0, first, second, 0]
    assert after.tolist() == [first, 1, 0, 0]
    codes, sharing = (of(rows) for of in VIEWS[SAME_TIME])
    assert sharing.tolist() == [True, True, False, False]
    # liked others, others, label before, label after; 2: none of the same time
    assert codes.tolist() == [((8 + 1) * 3 + 2) * 3 + 1, ((8 + 1) * 3 + 1) * 3 + 2, 8, 8]


def test_the_share_is_of_what_chance_leaves_open() -> None:
    assert LabelOrder("x", auc=0.8, by_chance=0.6).share == pytest.approx(0.5)
    assert LabelOrder("x", auc=0.77, by_chance=0.6).warning == ""
    told = LabelOrder("the rows around", auc=0.998, by_chance=0.5).warning
    assert "from the rows around: AUC 0.998, shuffled rows give 0.500" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("block", "tied"),
    [
        (lambda: [1, 0], True),
        (lambda: [1, 0], False),
        (lambda: shuffled(1, 0), True),
        (lambda: shuffled(1, 0), False),
        (lambda: [1, 0, 0, 0, 0], False),
        (lambda: shuffled(1, 0, 0, 0, 0), True),
        (lambda: shuffled(1, 0, 0, 0, 0), False),
        (lambda: sorted(drawn(4)), True),
        (lambda: sorted(drawn(3), reverse=True), True),
    ],
    ids=["pair, one second", "pair", "pair either way, one second", "pair either way",
         "one and four", "one among five, one second", "one among five",
         "negatives first in a second", "positives first in a second"],
)  # fmt: skip
def test_what_is_planted_is_found(block: Block, tied: bool) -> None:
    found = label_order(rows_of(block, tied=tied))
    assert found is not None
    assert found.warning
    assert found.share > 0.52


def test_all_positives_first_is_found_on_real_looking_users() -> None:
    rates = RANDOM.beta(2, 2, 300)
    labels = [np.sort(RANDOM.random(12) < rate)[::-1] for rate in rates]
    owners = np.repeat(np.arange(300), 12)
    found = label_order(
        LabelRows(owners, np.concatenate(labels).astype(np.int8), np.zeros(3600, dtype=bool))
    )
    assert found is not None
    assert found.warning
    assert found.told_from == NEIGHBOURS


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.3, 5.0), st.floats(0.0, 0.9))
def test_labels_that_are_each_users_own_are_not_doubted(
    seed: int, rows: int, tastes: float, ties: float
) -> None:
    """However much users differ, and however many rows they enter at once."""
    random = np.random.default_rng(seed)
    owners = np.repeat(np.arange(1 + 6000 // rows), rows)
    rates = random.beta(tastes, tastes, owners[-1] + 1)
    labels = (random.random(len(owners)) < rates[owners]).astype(np.int8)
    again = np.append(False, owners[1:] == owners[:-1]) & (random.random(len(owners)) < ties)
    found = label_order(LabelRows(owners, labels, again))
    assert found is None or found.share < 0.3


@pytest.mark.parametrize("block", [lambda: [1, 1], lambda: [0]])
def test_one_class_and_few_rows_say_nothing(block: Block) -> None:
    assert label_order(rows_of(block, tied=False)) is None
    few = rows_of(lambda: [1, 0], tied=False, users=2, blocks=LEAST_ROWS // 4 - 1)
    assert label_order(few) is None


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("kuaisar-r", "kuaisar-r"),
        ("kuairand", "kuairand-27k-kcore15"),
        ("ciaodvd", "ciaodvd"),
        ("amazon-electronics", "amazon-electronics-2023"),
    ],
)
def test_real_data_is_not_doubted(name: str, folder: str, tmp_path: Path) -> None:
    prepare(name, source=shared_data(folder), out=tmp_path / "d")
    found = label_order(first_rows(tmp_path / "d"))
    assert found is not None
    assert found.share < 0.35
    assert not found.warning


def test_made_up_data_is_not_doubted(small_data: Path) -> None:
    assert label_order(first_rows(small_data)) is None  # 360 rows

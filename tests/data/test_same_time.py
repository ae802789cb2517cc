"""Which labels teach and which are history, where a label is known at later times only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrff.config import ConfigError, RunConfig, TimesRead
from mrff.data.dataset import load_dataset, load_times, partition
from mrff.data.floors import predict_by_rates, split_rows
from mrff.data.targets import ending_with_targets
from mrff.data.windows import first_of_time, teaches, train_records
from tests.support.small_data import at_times, small_dataset
from tests.support.small_folders import alternating, write

# Users with 6, 3 and 2 rows; with holdout 1 the last two of a user are held out.
TIMES = [1, 1, 4, 5, 5, 5, 5, 5, 5, 9, 9]
WAITING = at_times(small_dataset((6, 3, 2)), TIMES)
USERS = np.arange(3)


def test_rows_of_the_time_of_the_first_held_out_one_do_not_teach() -> None:
    """User 0 loses row 3, user 1 all they have; user 2 is too short to be tested."""
    rows = np.array([[0, 1, 2, 3], [6, 6, 6, 6], [9, 10, 10, 10]])
    found = teaches(WAITING, USERS, rows, holdout=1)
    assert found.tolist() == [[True, True, True, False], [False] * 4, [True] * 4]
    assert teaches(replace(WAITING, knows_same_time=True), USERS, rows, holdout=1).all()

    records = train_records(WAITING, USERS, length=3, max_windows=0, holdout=1)
    assert records.real.sum((1, 2)).tolist() == [4, 1, 2]  # they stay history
    assert records.mask.tolist() == [
        [[True, False, False], [True, True, False]],
        [[False] * 3] * 2,
        [[True, True, False], [False] * 3],
    ]
    assert records.times is not None
    assert records.times[0].tolist() == [[1, 0, 0], [1, 4, 5]]


def test_the_row_before_which_all_is_known() -> None:
    assert first_of_time(WAITING).tolist() == [0, 0, 2, 3, 3, 3, 6, 6, 6, 9, 9]
    assert first_of_time(small_dataset((2, 3))).tolist() == [0, 1, 2, 3, 4]
    nobody = at_times(small_dataset((2, 0, 2, 0)), [5, 5, 5, 5])  # users without a row
    assert first_of_time(nobody).tolist() == [0, 0, 2, 2]


def test_floors_count_no_label_of_a_held_out_rows_time() -> None:
    assert split_rows(WAITING, holdout=1, part="test").train.tolist() == [
        True, True, True, False, False, False, False, False, False, True, True,
    ]  # fmt: skip
    before = predict_by_rates(WAITING, holdout=1, part="test").logits
    labels = WAITING.labels.copy()
    labels[[3, 6]] = 1 - labels[[3, 6]]
    after = predict_by_rates(replace(WAITING, labels=labels), holdout=1, part="test").logits
    for name, logits in before.items():
        assert after[name].tolist() == logits.tolist()


def test_times_are_kept_where_a_run_reads_them_and_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path, alternating(5, 4, 6))
    assert load_dataset(tmp_path).times is None
    dataset = load_dataset(tmp_path, TimesRead("unknown"))
    assert dataset.times is not None
    assert not dataset.knows_same_time
    assert dataset.times.tolist() == load_times(tmp_path).tolist()
    part = partition(dataset, 1, 2)  # the second user alone
    assert part.times is not None
    assert part.times.tolist() == [0, 1, 2, 3]


def test_times_stay_with_their_rows_where_rows_are_left_out() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1], dtype=np.int8)
    kept = ending_with_targets(replace(WAITING, labels=labels), holdout=1)
    assert kept.times is not None
    assert kept.times.tolist() == [1, 1, 4, 5, 5, 5, 5, 9, 9]  # without rows 3 and 4


def test_events_have_no_labels_to_hide() -> None:
    config = RunConfig.from_flat({"data.same-time": "unknown", "data.dataset": "shop"})
    with pytest.raises(
        ConfigError, match=r"data.same-time=unknown cannot go with data.dataset=shop"
    ):
        config.for_data("events")
    with pytest.raises(ConfigError, match=r"data.same-time must be one of known, unknown"):
        RunConfig.from_flat({"data.same-time": "later"})

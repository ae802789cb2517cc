"""Whole runs where labels of the same time are unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.wire.aggregation.base import RoundFailedError
from server_app.run.results import final_line
from tests.support.federation import run_federation, shared_arrays
from tests.support.tied_data import LAST, flipped, tied

MARK = "labels of the same time unknown"


def trained(data: Path, home: Path, **settings: Any) -> dict[str, Any]:
    """The summary of a run of two nodes, after as many rounds as its model needs to move."""
    values = {"sampling_rate": 1.0, "keep_test_scores": True, "same_time": "unknown", **settings}
    run_federation(data, home, nodes=2, name="run", **values)
    return dict(json.loads((home / "runs" / "run" / "summary.json").read_text()))


@pytest.mark.parametrize(
    ("place", "same_time", "is_read"),
    [(-3, "unknown", False), (-3, "known", True), (-4, "unknown", True)],
)
def test_a_label_of_the_test_rows_time_changes_nothing_in_a_whole_run(
    place: int, same_time: str, is_read: bool, small_data: Path, tmp_path: Path
) -> None:
    """A user's last three rows have one time; the first of them is in their training part."""
    found = []
    for name, change in (("as it is", None), ("flipped", flipped(4, place))):
        data = tied(small_data, tmp_path / name / "data", change)
        summary = trained(data, tmp_path / name, same_time=same_time)
        found.append((summary["test"], shared_arrays(tmp_path / name, "run")))
    (test, arrays), (other_test, other_arrays) = found
    same = [np.array_equal(array, other_arrays[name]) for name, array in arrays.items()]
    assert all(same) != is_read
    assert (test == other_test) != is_read


def test_a_run_that_needs_times_of_data_without_stops_with_one_line(
    small_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RoundFailedError, match=r"no real times, .*use network\.time-inputs=false"):
        trained(small_data, tmp_path, same_time="known", time_inputs=True)


def test_results_say_so_wherever_they_are_shown(small_data: Path, tmp_path: Path) -> None:
    data = tied(small_data, tmp_path / "data")
    summary = trained(data, tmp_path)
    assert summary["same_time"] == "unknown"
    assert MARK in final_line(summary)
    usual = trained(data, tmp_path / "usual", same_time="known")
    assert MARK not in final_line(usual)
    del usual["same_time"]  # a run of an earlier version
    assert final_line(usual).startswith("test auc")


def test_records_with_noise_in_every_step_carry_their_times(
    small_data: Path, tmp_path: Path
) -> None:
    data = tied(small_data, tmp_path / "data")
    summary = trained(
        data, tmp_path, keep_test_scores=False, mode="local-dp-sgd", delta=1e-3,
        noise_multiplier=0.5, clipping_norm=1.0, unit="record", private_training="frozen",
        max_windows_per_user="all", window_length=8,
    )  # fmt: skip
    assert summary["rounds"] == 3


@pytest.mark.parametrize("weighting", ["targets", "uniform"])
def test_who_has_nothing_to_learn_yet_takes_part(
    small_data: Path, tmp_path: Path, weighting: str
) -> None:
    """Some users met everything at one moment: no row of theirs trains, and no round fails."""

    def at_once(columns: dict[str, Any]) -> None:
        columns["time"][columns["user"] % 3 == 0] = LAST  # on both nodes

    data = tied(small_data, tmp_path / "tied", at_once)
    summary = trained(data, tmp_path, user_weighting=weighting, max_windows_per_user="all")
    assert summary["rounds"] == 3

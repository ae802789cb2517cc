from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mrff.io import files as durable
from mrff.wire.traffic import Rejection
from server_app.run.progress import (
    duration,
    evaluation_line,
    megabytes,
    rejection_lines,
    round_line,
)
from server_app.run.recorder import RunIdentity
from server_app.run.results import final_line, print_table, write_summary
from server_app.run.run_folder import RunFolder
from strategies.state import TrainingState
from tests.support.run_reports import evaluation_report, round_report
from tests.support.small_data import small_config, small_dataset


def test_lines_of_a_round_and_its_evaluations() -> None:
    line = round_line(round_report(3), rounds=10, seconds_left=65)
    assert line.startswith("round 3/10  loss 0.6000  users 3  load entropy 1.00  churn -")
    assert line.endswith("1.2 s  left 1 min 05 s")
    assert evaluation_line(evaluation_report(3), is_best=True) == (
        "round 3 validation  auc 0.7500  logloss 0.5000  gauc -  users 3  (best so far)"
    )
    assert "best" not in evaluation_line(evaluation_report(3, "test"), is_best=True)


def test_durations_and_sizes() -> None:
    assert [duration(s) for s in (-1, 44.6, 60, 3599, 3600, 7800)] == [
        "0 s",
        "45 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 10 min",
    ]
    assert megabytes(1_234_567) == "1.2 MB"


def test_many_rejections_are_a_few_lines() -> None:
    rejected = [Rejection(node, "no data") for node in range(1000)]
    lines = rejection_lines(rejected, [5, 6, 7, 8])
    assert lines[0] == "reply of node 0 rejected: no data"
    assert lines[3:] == [
        "and 997 more rejected replies, see the history",
        "no reply in time from node 5, 6, 7 and 1 more",
    ]
    assert rejection_lines([], []) == []


def test_the_summary_the_table_and_the_line_for_scripts(tmp_path: Path) -> None:
    state = TrainingState(public={}, group={}, round=50, best_round=41, best_value=0.77)
    identity = RunIdentity(small_config(), small_dataset().schema)
    summary = write_summary(RunFolder(tmp_path), state, evaluation_report(41, "test"), identity)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert final_line(summary) == "test auc 0.7500 logloss 0.5000 best-round 41"
    text = io.StringIO()
    print_table(summary, Console(file=text, width=100))
    assert "undefined" in text.getvalue()  # GAUC of users with one class
    assert "\x1b" not in text.getvalue()


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    durable.write_json(path, {"a": 1})

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(durable.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        durable.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_undefined_numbers_never_become_nan_in_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.write_json(tmp_path / "a.json", {"auc": float("nan")})

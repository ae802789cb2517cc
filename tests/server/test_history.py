from __future__ import annotations

import json
from pathlib import Path

from server_app.run.history import History, read_history
from strategies.reports import EvaluationReport, Rejection, RoundReport, Traffic


def round_report(server_round: int) -> RoundReport:
    return RoundReport(
        round=server_round,
        users=3,
        targets=9,
        dropped_users=0,
        train_loss=0.6,
        loads=[[0.5, 0.5]],
        load_entropy=1.0,
        churn=None,
        traffic=Traffic(4, 3, [Rejection(7, "why")], [8], 100, 50, 1.25),
    )


def evaluation_report(server_round: int, split: str = "valid") -> EvaluationReport:
    return EvaluationReport(
        split=split,
        round=server_round,
        users=3,
        targets=3,
        skipped_users=1,
        auc=0.75,
        auc_error_bound=0.001,
        log_loss=0.5,
        gauc=None,
        gauc_users=0,
        calibration_error=0.1,
        loads=[[0.5, 0.5]],
        load_entropy=1.0,
        churn=0.2,
        traffic=Traffic(4, 4, [], [], 100, 50, 1.25),
    )


def test_lines_hold_what_happened(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add_round(round_report(1))
    history.add_evaluation(evaluation_report(1), is_best=True)
    history.add_evaluation(evaluation_report(1, "test"), is_best=True)
    first, second, third = read_history(tmp_path / "history.jsonl")
    assert (first["kind"], first["round"], first["train_loss"]) == ("round", 1, 0.6)
    assert first["rejected"] == [{"node": 7, "reason": "why"}]
    assert first["missing"] == [8]
    assert first["bytes_down"] == 100
    assert first["churn"] is None
    assert (second["kind"], second["auc"], second["is_best"]) == ("validation", 0.75, True)
    assert third["kind"] == "test"


def test_resuming_cuts_later_rounds_the_test_and_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for server_round in (1, 2, 3):
        history.add_round(round_report(server_round))
    history.add_evaluation(evaluation_report(2, "test"), is_best=True)
    with path.open("a") as file:
        file.write('{"kind": "round", "rou')
    history.cut_after(2, 2)
    assert [(e["kind"], e["round"]) for e in read_history(path)] == [("round", 1), ("round", 2)]
    history.add_round(round_report(3))
    assert [json.loads(line)["round"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_no_file_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none.jsonl") == []

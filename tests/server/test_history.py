from __future__ import annotations

import json
from pathlib import Path

from server_app.run.history import History, read_history
from tests.support.run_reports import evaluation_report, round_report


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
    assert not {"traffic", "measures"} & (first.keys() | second.keys())  # their parts are there


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

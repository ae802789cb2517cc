"""What a strategy tells of a round and an evaluation, made by hand."""

from __future__ import annotations

from mrff.wire.requests import Part
from mrff.wire.traffic import Rejection, Traffic
from strategies.reports import EvaluationReport, RoundReport


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


def evaluation_report(server_round: int, split: Part = "valid") -> EvaluationReport:
    return EvaluationReport(
        split=split,
        round=server_round,
        users=3,
        targets=3,
        skipped_users=1,
        measures={
            "auc": 0.75,
            "auc_error_bound": 0.001,
            "log_loss": 0.5,
            "gauc": None,
            "calibration_error": 0.1,
            "load_entropy": 1.0,
            "churn": 0.2,
        },
        loads=[[0.5, 0.5]],
        traffic=Traffic(4, 4, [], [], 100, 50, 1.25),
    )

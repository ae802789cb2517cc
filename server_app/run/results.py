"""What a finished run leaves and says: summary.json, a table, one line for scripts."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mrff.io.files import write_json
from server_app.run.progress import duration, megabytes
from server_app.run.run_folder import RunFolder
from strategies.reports import EvaluationReport
from strategies.state import TrainingState

MEASURES = ("auc", "auc_error_bound", "log_loss", "gauc", "calibration_error", "load_entropy")


def write_summary(
    folder: RunFolder,
    state: TrainingState,
    test: EvaluationReport,
    *,
    dataset: str,
    schema_hash: str,
) -> dict[str, Any]:
    """Writes ``summary.json``; only a finished run has one. Undefined measures are null."""
    summary = {
        "run": folder.name,
        "path": str(folder.path),
        "training_id": folder.name,
        "dataset": dataset,
        "schema_hash": schema_hash,
        "rounds": state.round,
        "best_round": state.best_round,
        "validation_auc": state.best_auc,
        "test": {name: getattr(test, name) for name in MEASURES},
        "test_users": test.users,
        "test_targets": test.targets,
        "skipped_users": test.skipped_users,
        "bytes_down": state.bytes_down,
        "bytes_up": state.bytes_up,
        "seconds": round(state.seconds, 3),
    }
    write_json(folder.summary, summary)
    return summary


def final_line(summary: dict[str, Any]) -> str:
    """``test auc 0.7812 logloss 0.5634 best-round 41``."""
    auc, log_loss = (_number(summary["test"][name]) for name in ("auc", "log_loss"))
    return f"test auc {auc} logloss {log_loss} best-round {summary['best_round']}"


def print_table(summary: dict[str, Any], console: Console | None = None) -> None:
    """The summary for people; plain text where output is no terminal, as in Flower's log."""
    table = Table(title=f"MRFF on {summary['dataset']}", show_header=False)
    test = summary["test"]
    for name, value in (
        (
            "test AUC",
            f"{_number(test['auc'])} (binning error < {_number(test['auc_error_bound'], 5)})",
        ),
        ("test LogLoss", _number(test["log_loss"])),
        ("test GAUC", _number(test["gauc"])),
        ("calibration error", _number(test["calibration_error"])),
        ("users, targets", f"{summary['test_users']:,}, {summary['test_targets']:,}"),
        ("users too short for the split", f"{summary['skipped_users']:,}"),
        ("best of rounds", f"{summary['best_round']} of {summary['rounds']}"),
        ("validation AUC", _number(summary["validation_auc"])),
        ("load entropy", _number(test["load_entropy"], 2)),
        ("sent, received", f"{megabytes(summary['bytes_down'])}, {megabytes(summary['bytes_up'])}"),
        ("time in phases", duration(summary["seconds"])),
        ("results", summary["path"]),
    ):
        table.add_row(name, value)
    (console or Console(width=100)).print(table)


def _number(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"

"""What a finished run leaves and says: summary.json, a table, one line for scripts."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrff.config.derived import SAME_TIME_MARKS
from mrff.io.files import write_json
from mrff.metrics import METRICS, shown
from server_app.run.absences import absences, where_missing
from server_app.run.history import GROUPS, read_history
from server_app.run.progress import among_drawn, duration, groups_line, megabytes
from server_app.run.recorder import RunIdentity
from server_app.run.run_folder import RunFolder
from strategies.reports import EvaluationReport, GroupsChosen
from strategies.state import TrainingState


def _validated(history: list[dict[str, Any]]) -> int:
    """Users of the last validation."""
    found = [entry["users"] for entry in history if entry["kind"] == "validation"]
    return int(found[-1]) if found else 0


def _groups(history: list[dict[str, Any]]) -> str:
    """Whether groups stayed, in words; empty where nobody asked."""
    found = [entry for entry in history if entry["kind"] == GROUPS]
    if not found:
        return ""
    names = ("round", "kept", "metric", "with_groups", "with_one")
    return groups_line(GroupsChosen(*(found[-1][name] for name in names)))


NOTHING_TESTED = EvaluationReport("test", 0, 0, 0, 0, {})


def write_summary(
    folder: RunFolder,
    state: TrainingState,
    test: EvaluationReport | None,
    identity: RunIdentity,
) -> dict[str, Any]:
    """Writes ``summary.json``; only a finished run has one.

    Undefined measures are null; where nothing was tested there are none, and ``untested`` says why.
    """
    test = test or NOTHING_TESTED
    best_by = identity.config.best_by
    history = read_history(folder.history)
    missing = absences(history)
    everybody = identity.schema.counts.get("users")  # not known where nodes hold the rows
    if missing.get("test") and everybody and not identity.config.privacy.is_private:
        missing["users"] = max(0, everybody - test.users - test.skipped_users)
    summary = {
        "run": folder.name,
        "path": str(folder.path),
        "training_id": folder.name,
        "dataset": identity.schema.name,
        "schema_hash": identity.schema.schema_hash,
        "rounds": state.round,
        "best_round": state.best_round,
        "best_by": best_by,
        f"validation_{best_by}": state.best_value,
        "untested": identity.untested,
        "test": test.measures,
        "test_parts": dict(test.parts),
        "ranking_candidates": test.drawn,
        "same_time": identity.config.data.same_time,
        "test_users": test.users,
        "test_targets": test.targets,
        "validation_users": _validated(history),
        "skipped_users": test.skipped_users,
        "nodes_missing": missing,
        "groups": _groups(history),
        "bytes_down": state.bytes_down,
        "bytes_up": state.bytes_up,
        "seconds": round(state.seconds, 3),
    }
    write_json(folder.summary, summary)
    return summary


def final_line(summary: dict[str, Any]) -> str:
    """``test auc 0.7812 logloss 0.5634 best-round 41``, or by rank where no click is learned."""
    test = summary["test"]
    if summary.get("untested"):
        best_by = METRICS[summary["best_by"]]
        value = summary[f"validation_{best_by.name}"]
        measured = "" if value is None else f"validation {best_by.label} {_number(value)} "
        return f"not tested {measured}best-round {summary['best_round']}"
    names = ("auc", "log_loss") if "auc" in test else ("hr10", "ndcg10")
    told = " ".join(f"{n.replace('_', '')} {_number(test.get(n))}" for n in names)
    drawn = summary["ranking_candidates"]
    marks = ["" if drawn is None else among_drawn(drawn), _mark(summary)]
    marked = "".join(f" ({mark})" for mark in marks if mark)
    return f"test {told}{marked} best-round {summary['best_round']}"


def print_table(summary: dict[str, Any], console: Console | None = None) -> None:
    """The summary for people; plain text where output is no terminal, as in Flower's log."""
    table = Table(title=escape(f"MRFF on {summary['dataset']}"), show_header=False)
    test, best_by = summary["test"], METRICS[summary["best_by"]]
    if summary["ranking_candidates"] is not None:
        table.add_row("ranks are", among_drawn(summary["ranking_candidates"]))
    if _mark(summary):
        table.add_row("protocol", _mark(summary))
    for metric in shown(test):
        value = test[metric.name]
        if value is not None or not metric.optional:
            table.add_row(f"test {metric.label}", _number(value, metric.digits))
    for name, values in summary["test_parts"].items():
        told = ", ".join(f"{METRICS[n].label} {_number(v)}" for n, v in values.items())
        table.add_row(f"ranked by {name}", told)
    for name, value in (
        *_people(summary),
        *_missing(summary),
        *([("groups", summary["groups"])] if summary.get("groups") else []),
        ("best of rounds", f"{summary['best_round']} of {summary['rounds']}"),
        (f"validation {best_by.label}", _number(summary[f"validation_{best_by.name}"])),
        ("sent, received", f"{megabytes(summary['bytes_down'])}, {megabytes(summary['bytes_up'])}"),
        ("time in phases", duration(summary["seconds"])),
        ("results", summary["path"]),
    ):
        table.add_row(name, escape(value))
    (console or Console(width=100)).print(table)


def _mark(summary: dict[str, Any]) -> str:
    """Of the rule for labels of the same time; runs from before there was one know them."""
    return SAME_TIME_MARKS[summary.get("same_time", "known")]


def _people(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if summary.get("untested"):
        return [
            ("test", summary["untested"]),
            ("users validated", f"{summary['validation_users']:,}"),
        ]
    return [
        ("users, targets", f"{summary['test_users']:,}, {summary['test_targets']:,}"),
        ("users who only train: too short for the split", f"{summary['skipped_users']:,}"),
    ]


def _missing(summary: dict[str, Any]) -> list[tuple[str, str]]:
    found = summary["nodes_missing"]
    return [("NODES MISSING IN", where_missing(found))] if found else []


def _number(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"

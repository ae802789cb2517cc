"""The history of a run: one JSON object per line and round, validation, query or test."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrff.io.files import write_bytes
from mrff.wire.traffic import Traffic
from strategies.reports import EvaluationReport, GroupsChosen, RoundReport

Report = RoundReport | EvaluationReport | GroupsChosen
TIMED = ("bytes_down", "bytes_up", "seconds")
GROUPS = "groups"  # the kind of entry that says whether groups stay


class History:
    """Appends to the file at ``path``; every line is durable when the call returns.

    Args:
        timed: with the bytes and seconds of each phase. Not in private modes: where a node has one
            user, how long a round took says whether they were drawn.
    """

    def __init__(self, path: Path, *, timed: bool = True) -> None:
        self._path, self._left_out = path, () if timed else TIMED

    def add_round(self, report: RoundReport) -> None:
        """Appends a training round."""
        self._append({"kind": "round", **self._fields(report)})

    def add_evaluation(self, report: EvaluationReport, *, is_best: bool) -> None:
        """Appends a validation or the test; its round is that of the model."""
        kind = "test" if report.split == "test" else "validation"
        fields = self._fields(report)
        del fields["split"]
        self._append({"kind": kind, **fields, "is_best": is_best})

    def add_query(self, what: str, server_round: int, traffic: Traffic) -> None:
        """Appends who answered a question beside training and evaluation."""
        about = {"kind": "query", "what": what, "round": server_round}
        self._append({**about, **self._kept(asdict(traffic))})

    def add_groups(self, chosen: GroupsChosen) -> None:
        """Appends whether groups stay."""
        self._append({"kind": GROUPS, **self._fields(chosen)})

    def cut_after(self, server_round: int, validated_round: int) -> None:
        """Drops what a resumed run will do again: later rounds, tests, an unfinished line.

        The validation of the checkpoint's round may be younger than the checkpoint.
        """
        last = {"round": server_round, "validation": validated_round}
        kept = [
            entry
            for entry in read_history(self._path)
            if entry["round"] <= last.get(entry["kind"], -1)
        ]
        write_bytes(self._path, b"".join(_line(entry) for entry in kept))

    def _fields(self, report: Report) -> dict[str, Any]:
        return self._kept(_fields(report))

    def _kept(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {n: value for n, value in fields.items() if n not in self._left_out}

    def _append(self, entry: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())


def read_history(path: Path) -> list[dict[str, Any]]:
    """All complete lines; none if there is no file. A line cut off by a crash is left out.

    Raises:
        ValueError: a complete line is no JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # what follows the last newline is unfinished


def _fields(report: Report) -> dict[str, Any]:
    fields = asdict(report)
    if fields.get("privacy", {}) is None:  # nothing to say in mode none
        del fields["privacy"]
    if not fields.get("parts", True):
        del fields["parts"]
    measures, traffic = fields.pop("measures", {}), fields.pop("traffic")
    return {**fields, **measures, **traffic}


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry, allow_nan=False) + "\n").encode()

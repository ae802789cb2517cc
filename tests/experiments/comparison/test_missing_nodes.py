"""A comparison's tables say which of its runs went on without some of their nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mrff.experiments.comparison.cells import Cell, CellOutcome, outcome_of_run
from mrff.experiments.comparison.tables import notes_of

SUMMARY: dict[str, Any] = {
    "best_round": 7, "seconds": 1.0, "bytes_up": 2, "bytes_down": 3,
    "test": {"auc": 0.7, "log_loss": 0.6},
    "nodes_missing": {"nodes": 4, "phases": {"round": [3, 40, 2]}, "test": 1, "users": 5},
}  # fmt: skip
MISSED = (
    "nodes were missing in 3 of 40 training rounds (at most 2 of 4 nodes), "
    "the test (1 of 4 nodes, 5 users untested)"
)


def test_a_finished_run_without_some_nodes_is_noted(tmp_path: Path) -> None:
    settings = {"privacy.mode": "central-user", "privacy.noise-multiplier": 1.0}
    cell = Cell("ml-1", "mrff", True, dict(settings), tmp_path)
    short = outcome_of_run(cell, SUMMARY)
    whole = outcome_of_run(cell, {**SUMMARY, "nodes_missing": {}})
    assert (short.status, short.error) == ("finished", MISSED)
    assert whole.error == ""
    crashed = CellOutcome("crashed", error="why")  # told below the tables
    results = pd.DataFrame(
        [
            {"method": method, "status": outcome.status, "error": outcome.error, "run": f"/r/{n}"}
            for n, (method, outcome) in enumerate(
                [("mrff", short), ("fedavg", whole), ("local", crashed)]
            )
        ]
    )
    found = pd.DataFrame({"method": ["local"], "note": ["no run of local left test scores"]})
    assert notes_of(results, found) == [
        f"mrff, 0: {MISSED}",
        "local: no run of local left test scores",
    ]

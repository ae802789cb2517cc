"""No table of a run hides that nodes were missing, whatever it was that they missed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from rich.console import Console

from client_app.app import app as client_app
from mrff.config import ConfigError
from server_app.run.absences import absences, where_missing
from server_app.run.results import print_table
from tests.support.federation import run_federation
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid


def phase(kind: str, sent: int, replies: int) -> dict[str, Any]:
    return {"kind": kind, "sent": sent, "replies": replies}


def test_what_was_missed_is_counted_by_kind_of_phase() -> None:
    history = [
        phase("round", 4, 4), phase("round", 4, 2), phase("validation", 4, 2),
        phase("round", 4, 3), phase("query", 4, 4), phase("test", 4, 3),
    ]  # fmt: skip
    found = absences(history)
    assert found == {
        "nodes": 4, "phases": {"round": (2, 3, 2), "validation": (1, 1, 2)}, "test": 1,
    }  # fmt: skip
    assert where_missing({**found, "users": 10}) == (
        "2 of 3 training rounds (at most 2 of 4 nodes), "
        "1 of 1 validations (at most 2 of 4 nodes), the test (1 of 4 nodes, 10 users untested)"
    )


def test_a_node_that_left_is_missing_and_one_that_comes_late_was_not() -> None:
    rounds = [phase("round", 3, 3), phase("round", 4, 4), phase("round", 3, 3)]
    assert absences(rounds) == {"nodes": 4, "phases": {"round": (1, 3, 1)}, "test": 0}


def test_nobody_missing_is_nothing_to_tell() -> None:
    assert absences([phase("round", 4, 4), phase("test", 4, 4)]) == {}
    assert absences([]) == {}


class FailingGrid(LocalGrid):
    """The first node fails in everything of these kinds, after its first training."""

    kinds: tuple[str, ...] = ()

    def __init__(self, app: Any, *arguments: Any, **more: Any) -> None:
        def failing(message: Message, context: Context) -> Message:
            about = message.metadata
            later = (about.message_type, about.group_id) != ("train", "1")
            if later and about.dst_node_id == FIRST_NODE_ID and about.message_type in self.kinds:
                raise ConfigError("its worker has died")
            return client_app(message, context)

        super().__init__(failing, *arguments, **more)


@pytest.mark.parametrize(
    ("kinds", "missed"),
    [
        (("train",), {"round": [2, 3, 1]}),
        (("evaluate",), {"query": [1, 3, 1], "validation": [1, 1, 1], "test": 1}),
        (("query.item_counts",), {"query": [1, 3, 1]}),
        (("query.linear_sums",), {"query": [1, 3, 1]}),
    ],
)
def test_the_summary_and_the_table_say_so(
    small_data: Path, tmp_path: Path, kinds: tuple[str, ...], missed: dict[str, Any]
) -> None:
    grid = type("Failing", (FailingGrid,), {"kinds": kinds})
    run_federation(
        small_data, tmp_path, nodes=3, name="short", grid_type=grid, linear_items=10,
        early_stop_patience=5, objective="next",
    )  # fmt: skip
    summary = json.loads((tmp_path / "runs/short/summary.json").read_text())
    found = summary["nodes_missing"]
    assert {**found["phases"], **({"test": 1} if found["test"] else {})} == missed
    text = io.StringIO()
    print_table(summary, Console(file=text, width=200))
    assert "NODES MISSING IN" in text.getvalue()
    assert where_missing(found) in text.getvalue()
    assert ("users untested" in where_missing(found)) == ("test" in missed)

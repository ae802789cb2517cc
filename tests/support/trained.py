"""One finished run that many tests read: commands, tools and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.federation import run_federation

RUN = "small"
ROUNDS = 12


def train_small_run(data: Path, home: Path) -> None:
    """The run ``small``: three nodes, private state on this machine."""
    run_federation(
        data, home, nodes=3, name=RUN, num_server_rounds=ROUNDS, evaluate_every=2,
        private_learning_rate=0.3, num_experts=3, gate_learning_rate_factor=1.0, seed=3,
        user_factors=True,
    )  # fmt: skip


NEXT_RUNS = ("next", "both", "mixed", "click", "final")


def train_next_runs(data: Path, home: Path) -> None:
    """Runs of what can be learned: the next item, with clicks, with linear models; clicks alone.

    ``final`` tests nobody: all rows train, and what others make of items is an input.
    """
    changes: dict[str, dict[str, Any]] = {
        "both": {"objective": "both"},
        "mixed": {"linear_items": 15},
    }
    changes["click"] = {"objective": "click"}
    changes["final"] = {
        "objective": "click", "holdout": 0, "validation_users": 0.3,
        "item_statistics": True, "closed_form_factors": 2,
    }  # fmt: skip
    for name in NEXT_RUNS:
        settings = {"objective": "next", "window_length": 8, **changes.get(name, {})}
        run_federation(data, home, nodes=2, name=name, **settings)

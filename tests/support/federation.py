"""A whole federation in one process: the real ServerApp and ClientApp over serialised messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict

from client_app.app import app as client_app
from mrff.config import full_names
from server_app.app import app as server_app
from server_app.run.checkpoint import load_checkpoint
from tests.support.local_grid import LocalGrid


def run_federation(
    data: Path,
    home: Path,
    *,
    nodes: int,
    name: str,
    shuffle_seed: int | None = None,
    record: bool = False,
    grid_type: type[LocalGrid] = LocalGrid,
    **changes: Any,
) -> LocalGrid:
    """One run of a small network on prepared data; keywords are settings in snake_case."""
    config: dict[str, Any] = {
        "data-dir": str(data),
        "home": str(home),
        "name": name or "auto",
        "expected-nodes": nodes,
        "num-server-rounds": 3,
        "evaluate-every": 3,
        "feature-dim": 4,
        "window-length": 16,
        "sampling-rate": 0.6,
        "tensorboard": False,
        "fit-settings": False,
    }
    changed = {key.replace("_", "-"): value for key, value in changes.items()}
    config = full_names(config) | full_names(changed)
    grid = grid_type(client_app, nodes, config, shuffle_seed=shuffle_seed, record=record)
    server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
    return grid


def shared_arrays(home: Path, name: str) -> dict[str, np.ndarray]:
    """Public and group arrays of a run's last checkpoint."""
    state = load_checkpoint(home / "runs" / name / "checkpoint").state
    return {**state.public, **state.group}

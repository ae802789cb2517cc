"""What a node's users have from runs that a run goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from client_app.private_store import PrivateStore
from client_app.sides import state_folder
from mrff.config import RunConfig
from mrff.wire.requests import RunFacts


def earlier_stores(
    config: RunConfig, node_config: Mapping[str, Any], run: RunFacts
) -> list[tuple[PrivateStore, int]]:
    """Where a node keeps what its users had in runs that this one goes on from.

    Where one guarantee protects a record, users begin anew: parameters that were trained on their
    other records without noise would let one record change the gradients of others.
    """
    if config.privacy.is_private and config.privacy.unit == "record":
        return []
    return [
        (PrivateStore(folder, earlier.epoch_starts), earlier.round)
        for earlier in run.earlier_runs
        for folder in _folders_of(node_config, replace(run, training_id=earlier.training_id))
    ]


def _folders_of(node_config: Mapping[str, Any], run: RunFacts) -> list[Path]:
    """The node's own; in a simulation that had other nodes, all of the latest ones'."""
    own = state_folder(node_config, run)
    if "state-dir" in node_config or own.is_dir() or not own.parent.is_dir():
        return [own]
    layouts = [path for path in own.parent.glob("node-*-of-*") if path.is_dir()]
    newest = max(layouts, key=lambda path: path.stat().st_mtime_ns, default=own)
    nodes = newest.name.rsplit("-", 1)[1]
    return [path for path in layouts if path.name.endswith(f"-of-{nodes}")]

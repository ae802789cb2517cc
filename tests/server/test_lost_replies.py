"""A node dies after it trained and before it answered; back under its id, it is asked again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo

from server_app.run.history import read_history
from strategies import reconnections
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

SETTINGS = {"num_server_rounds": 4, "evaluate_every": 4, "sampling_rate": 1.0}


class LosingGrid(LocalGrid):
    """The first node's reply of round 2 is lost with the node, which connects anew at once."""

    lost = 0

    def get_nodes(self) -> Iterable[NodeInfo]:
        for node in self.get_node_ids():
            times = self.lost if node == FIRST_NODE_ID else 0
            yield NodeInfo(node_id=node, last_activated_at=f"connection {times}")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for reply in super().pull_messages(message_ids):
            about = reply.metadata
            if not self.lost and (about.src_node_id, about.group_id) == (FIRST_NODE_ID, "2"):
                self.lost += 1
            else:
                yield reply


def test_it_trains_the_round_again_and_not_twice(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnections, "SECONDS_BETWEEN_LOOKS", 0.0)
    whole = run_federation(small_data, tmp_path, nodes=2, name="whole", **SETTINGS)
    losing = run_federation(
        small_data, tmp_path, nodes=2, name="losing", grid_type=LosingGrid, **SETTINGS
    )
    assert losing.pushed == whole.pushed + 1
    rounds = read_history(tmp_path / "runs/losing/history.jsonl")
    assert all(entry["missing"] == [] for entry in rounds)
    assert sum(len(entry["rejected"]) for entry in rounds) == 0
    for name, array in shared_arrays(tmp_path, "whole").items():
        assert shared_arrays(tmp_path, "losing")[name].tobytes() == array.tobytes(), name
    # Every user's own parameters show in their scores.
    assert _measured(tmp_path, "losing") == _measured(tmp_path, "whole")


def _measured(home: Path, name: str) -> list[tuple[str, float, float]]:
    entries = read_history(home / "runs" / name / "history.jsonl")
    return [(e["kind"], e["log_loss"], e["auc"]) for e in entries if e["kind"] != "round"]

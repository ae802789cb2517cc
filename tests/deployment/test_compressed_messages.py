"""A process for every message: a node follows the model by what lies on its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrff.ops.processes import wait_for
from tests.support.deployment import Federation

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_nodes_follow_a_compressed_model_and_one_loses_what_it_holds(
    tmp_path: Path, two_shards: Path
) -> None:
    with Federation(tmp_path, two_shards, nodes=2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        run = federation.submit(
            name="small", compression="4-bit", item_statistics=True, num_server_rounds=5,
            evaluate_every=5,
        )  # fmt: skip
        history = federation.home / "runs/small/history.jsonl"
        wait_for("round 2", lambda: history.exists() and len(federation.rounds("small")) > 1, 300)
        held = [federation.state(node) / "small" / "held" for node in (0, 1)]
        assert all(
            list((folder / kind).iterdir()) for folder in held for kind in ("fixed", "model")
        )
        held[1].rename(tmp_path / "lost")  # at once, whatever the node is about
        federation.completes(run)
        rounds = federation.rounds("small")
        assert [(entry["replies"], entry["rejected"]) for entry in rounds] == [(2, [])] * 5
        whole, *later = (entry["bytes_down"] for entry in rounds)
        lost = [size for size in later if 2 * size > whole / 2]  # one node is sent it whole
        assert len(lost) == 1
        assert all(size < whole / 6 for size in later if size not in lost)

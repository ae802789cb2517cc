"""Real processes with TLS and node authentication: a dead server, strangers, wrong settings."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mrff.data.schema import Schema
from mrff.data.shard import node_folder, shard
from mrff.ops.control import Control, FlowerError
from mrff.ops.keys import make_keys
from mrff.ops.processes import wait_for
from tests.support import reference
from tests.support.deployment import Federation, Values, wait_for_request
from tests.support.stored import stored_rounds

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_dead_server_app_and_a_dead_superlink_are_resumed_without_loss(
    tmp_path: Path, ml_100k: Path, two_shards: Path
) -> None:
    settings: Values = {"num_server_rounds": 3, "evaluate_every": 3, "score_test": False}
    with Federation(tmp_path, two_shards, nodes=2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        run = federation.submit(name="resumed", **settings)
        wait_for_request(federation, "node-0", "train", 2, content=True)
        wait_for_request(federation, "node-1", "train", 2, content=True)
        with federation.frozen_server_app():
            wait_for(
                "both have trained",
                lambda: (
                    _stored(federation, 0, "resumed", 2) and _stored(federation, 1, "resumed", 2)
                ),
                120,
            )
            federation.kill_server_app()
        federation.control.stop(run)  # Flower itself needs a minute and more to notice

        run = federation.submit(resume="resumed", **settings)
        # The nodes have trained, and keep, what this server never hears of.
        wait_for("round 3 is stored", lambda: _stored(federation, 0, "resumed", 3), 240)
        federation.kill("superlink")
        federation.start_superlink()
        status, _ = federation.control.wait(run, 300)
        assert status == "finished:failed"

        run = federation.submit(resume="resumed", **settings)
        federation.completes(run)
        assert [entry["round"] for entry in federation.rounds("resumed")] == [1, 2, 3]
        starts = reference.epoch_starts(federation.home, "resumed")
        assert starts[0] == 0
        assert len(starts) == 3
        assert reference.lost_users(federation, "resumed", tmp_path, ml_100k, {}, settings) == 0


def test_strangers_are_refused(tmp_path: Path, two_shards: Path) -> None:
    make_keys(tmp_path / "others", nodes=1)
    stranger, other_ca = tmp_path / "others/node-0", tmp_path / "others/public/ca.crt"
    with Federation(tmp_path, two_shards, nodes=1) as federation:
        ours = federation.keys / "public/ca.crt"
        # A key that nobody registered, over a connection that is fine.
        federation.start_node(0, keys=stranger, ca=ours)
        assert federation.exit_status("node-0", 180) != 0
        assert "Failed to activate SuperNode" in federation.log("node-0")
        # No key at all.
        federation.start_node(0, authenticated=False)
        assert federation.exit_status("node-0", 180) != 0
        # A server whose certificate the node has no reason to trust: it must not talk to it.
        federation.start_node(0, ca=other_ca)
        time.sleep(8)
        assert federation.log("node-0").count("SuperNode ID:") == 0
        federation.kill("node-0")
        with pytest.raises(FlowerError):
            Control(f"127.0.0.1:{federation.port}", other_ca, tmp_path / "cli-2").runs()
        with pytest.raises(FlowerError):
            Control(f"127.0.0.1:{federation.port}", None, tmp_path / "cli-3").runs()
        assert [node["status"] for node in federation.control.nodes()] == ["registered"]
        # The same node as it should be.
        federation.wait_until_online(0)


@pytest.mark.long
def test_wrong_node_settings_are_named_at_the_node_and_rejected_at_the_server(
    tmp_path: Path, ml_100k: Path, two_shards: Path
) -> None:
    shard(_with_another_meaning(ml_100k, tmp_path / "other"), tmp_path / "other-shards", 2)
    taken = tmp_path / "a-file"
    taken.write_text("not a folder")
    shard_0, state = node_folder(two_shards, 0), tmp_path / "state"
    settings = [
        ({"data-dir": shard_0, "state-dir": state / "0"}, None),
        ({"state-dir": state / "1"}, "does not know its data"),
        ({"data-dir": shard_0, "state-dir": taken}, "cannot be written"),
        (
            {"data-dir": node_folder(tmp_path / "other-shards", 0), "state-dir": state / "3"},
            "schema hash",
        ),
    ]
    with Federation(tmp_path, two_shards, nodes=len(settings)) as federation:
        for node, (config, _) in enumerate(settings):
            federation.start_node(node, config=config)
        run = federation.submit(
            name="wrong", num_server_rounds=1, min_reply_fraction=0.1, node_wait_seconds=240.0
        )
        federation.completes(run)
        first = federation.rounds("wrong")[0]
        assert first["replies"] == 1
        reasons = [rejection["reason"] for rejection in first["rejected"]]
        for node, (_, expected) in enumerate(settings):
            if expected is not None:
                assert sum(expected in reason for reason in reasons) == 1, (expected, reasons)
                assert expected in federation.log(f"node-{node}"), federation.log(f"node-{node}")


def _stored(federation: Federation, node: int, run: str, number: int) -> bool:
    return number in stored_rounds(federation.state(node) / run)


def _with_another_meaning(prepared: Path, out: Path) -> Path:
    """The dataset under another label rule: the same shapes, another schema hash."""
    shutil.copytree(prepared, out)
    replace(Schema.load(out), label_rule="another").save(out)
    return out

"""Real processes with TLS and node authentication: what they do when something dies or is wrong.

Runs are compared with the same apps in one process: the public and group parameters of the server
and every user's private parameters must agree, whatever was killed on the way.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mrff_cli.deploy_control import Control, ControlError
from mrff_cli.deploy_keys import make_keys
from mrff_data.shard import node_folder, shard
from tests.deployment import reference
from tests.deployment.federation import Federation, Values, wait_for

pytestmark = pytest.mark.slow


def test_a_node_killed_in_a_round_comes_back_with_its_users_private_parameters(
    tmp_path: Path, ml_100k: Path, two_shards: Path
) -> None:
    settings: Values = {"num_server_rounds": 4, "evaluate_every": 4}
    with Federation(tmp_path, two_shards, nodes=2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        run = federation.submit(run_name="killed", **settings)
        _wait_for_request(federation, "node-0", "train", 2)
        federation.kill("node-0")
        federation.wait_until_online(0)
        federation.completes(run)
        rounds = federation.rounds("killed")
        absent = {entry["round"]: [0] for entry in rounds if entry["replies"] == 1}
        assert 1 not in absent
        assert 2 in absent
        assert 4 not in absent, "the node was to be back"
        assert "Node Unavailable" in rounds[1]["rejected"][0]["reason"]
        _check_against_reference(federation, "killed", tmp_path, ml_100k, absent, settings)


def test_a_dead_server_app_and_a_dead_superlink_are_resumed_without_loss(
    tmp_path: Path, ml_100k: Path, two_shards: Path
) -> None:
    settings: Values = {"num_server_rounds": 4, "evaluate_every": 2}
    with Federation(tmp_path, two_shards, nodes=2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        run = federation.submit(run_name="resumed", **settings)
        _wait_for_request(federation, "node-0", "train", 2)
        _wait_for_request(federation, "node-1", "train", 2)
        federation.kill_server_app()
        status, _ = federation.control.wait(run, 120)
        assert status == "finished:failed"

        run = federation.submit(resume="resumed", **settings)
        # The nodes have trained, and keep, what this server never hears of.
        wait_for("round 3 is stored", lambda: _stored(federation, 0, "resumed", 3), 240)
        federation.kill("superlink")
        federation.start_superlink()
        status, _ = federation.control.wait(run, 120)
        assert status == "finished:failed"

        run = federation.submit(resume="resumed", **settings)
        federation.completes(run)
        assert [entry["round"] for entry in federation.rounds("resumed")] == [1, 2, 3, 4]
        starts = reference.epoch_starts(federation.home, "resumed")
        assert starts[0] == 0
        assert len(starts) == 3
        _check_against_reference(federation, "resumed", tmp_path, ml_100k, {}, settings)


def test_late_nodes_are_used_and_silent_ones_waited_for_no_longer_than_configured(
    tmp_path: Path, two_shards: Path
) -> None:
    with Federation(tmp_path, two_shards, nodes=2) as federation:
        federation.start_node(0)
        federation.submit(
            run_name="late", num_server_rounds=100, evaluate_every=100, expected_nodes=1,
            reply_timeout_seconds=30.0,
        )  # fmt: skip
        wait_for("a round with one node", lambda: federation.rounds("late"), 240)
        federation.start_node(1)
        wait_for("the late node", lambda: _last(federation, "late")["replies"] == 2, 240)
        federation.freeze("node-1")
        wait_for("a node is missing", lambda: _last(federation, "late")["missing"], 240)
        slowest = _last(federation, "late")
        federation.thaw("node-1")
        assert slowest["replies"] == 1
        assert slowest["seconds"] == pytest.approx(30.0, abs=5.0)
        back = len(federation.rounds("late"))
        wait_for(
            "the node is back",
            lambda: any(r["replies"] == 2 for r in federation.rounds("late")[back:]),
            240,
        )


def test_strangers_are_refused(tmp_path: Path, two_shards: Path) -> None:
    make_keys(tmp_path / "others", nodes=1)
    stranger, other_ca = tmp_path / "others/node-0", tmp_path / "others/public/ca.crt"
    with Federation(tmp_path, two_shards, nodes=1) as federation:
        ours = federation.keys / "public/ca.crt"
        # A key that nobody registered, over a connection that is fine.
        federation.start_node(0, keys=stranger, ca=ours)
        assert federation.exit_status("node-0", 60) != 0
        assert "Failed to activate SuperNode" in federation.log("node-0")
        # No key at all.
        federation.start_node(0, authenticated=False)
        assert federation.exit_status("node-0", 60) != 0
        # A server whose certificate the node has no reason to trust: it must not talk to it.
        federation.start_node(0, ca=other_ca)
        time.sleep(15)
        assert federation.log("node-0").count("SuperNode ID:") == 0
        federation.kill("node-0")
        with pytest.raises(ControlError):
            Control(f"127.0.0.1:{federation.port}", other_ca, tmp_path / "cli-2").runs()
        with pytest.raises(ControlError):
            Control(f"127.0.0.1:{federation.port}", None, tmp_path / "cli-3").runs()
        assert [node["status"] for node in federation.control.nodes()] == ["registered"]
        # The same node as it should be.
        federation.wait_until_online(0)


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
        ({"data-dir": tmp_path / "nowhere", "state-dir": state / "2"}, str(tmp_path / "nowhere")),
        ({"data-dir": shard_0}, "nowhere to keep private parameters"),
        ({"data-dir": shard_0, "state-dir": taken}, "cannot be written"),
        (
            {
                "data-dir": node_folder(tmp_path / "other-shards", 0),
                "state-dir": state / "5",
            },
            "schema hash",
        ),
    ]
    with Federation(tmp_path, two_shards, nodes=len(settings)) as federation:
        for node, (config, _) in enumerate(settings):
            federation.start_node(node, config=config)
        run = federation.submit(
            run_name="wrong", num_server_rounds=1, min_reply_fraction=0.1, node_wait_seconds=240.0
        )
        federation.completes(run)
        first = federation.rounds("wrong")[0]
        assert first["replies"] == 1
        reasons = [rejection["reason"] for rejection in first["rejected"]]
        for node, (_, expected) in enumerate(settings):
            if expected is not None:
                assert sum(expected in reason for reason in reasons) == 1, (expected, reasons)
                assert expected in federation.log(f"node-{node}"), federation.log(f"node-{node}")


def _wait_for_request(federation: Federation, name: str, kind: str, number: int) -> None:
    """Until the node has got this message, and a moment more."""

    def has_come() -> bool:
        after = federation.log(name).split(f"ROUND {number}]")[1:]
        return any(f"Receiving: {kind} message" in text for text in after)

    wait_for(f"{name} is asked to {kind} in round {number}", has_come, 240)
    time.sleep(0.5)


def _stored(federation: Federation, node: int, run: str, number: int) -> list[Path]:
    return list((federation.state(node) / run).glob(f"round-{number:08d}-*"))


def _last(federation: Federation, run: str) -> dict[str, object]:
    return federation.rounds(run)[-1]


def _with_another_meaning(prepared: Path, out: Path) -> Path:
    """The dataset under another label rule: the same shapes, another schema hash."""
    import shutil
    from dataclasses import replace

    from mrff_data.schema import Schema

    shutil.copytree(prepared, out)
    replace(Schema.load(out), label_rule="another").save(out)
    return out


def _check_against_reference(
    federation: Federation,
    run: str,
    folder: Path,
    data: Path,
    absent: dict[int, list[int]],
    settings: Values,
) -> None:
    """Shared and private parameters, and the test, as if everything had run in one process."""
    home = folder / "reference"
    reference.run_in_process(home, data, nodes=2, absent=absent, settings=settings)
    ours = reference.shared_parameters(federation.home, run)
    wanted = reference.shared_parameters(home, "reference")
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-5, err_msg=name)
    initial = reference.initial_private(data, {})
    last = int(settings["num_server_rounds"])
    for node in range(2):
        shard_of_node = node_folder(federation.shards, node)
        kept = reference.private_parameters(
            federation.state(node) / run, shard_of_node, round_number=last,
            epochs=reference.epoch_starts(federation.home, run), like=initial,
        )  # fmt: skip
        true = reference.private_parameters(
            home / f"state/reference/node-{node}-of-2", shard_of_node, round_number=last,
            epochs=(0,), like=initial,
        )  # fmt: skip
        for name, array in true.items():
            np.testing.assert_allclose(kept[name], array, atol=1e-5, err_msg=f"node {node} {name}")
            assert not np.allclose(array, initial[name].numpy(), atol=1e-7), f"{name} never moved"

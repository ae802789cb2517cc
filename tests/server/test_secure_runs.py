"""Runs whose sums are secure: the same model, nothing readable on the way, nodes that leave."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from mrff.wire.aggregation import RoundFailedError
from mrff.wire.aggregation.secure.messages import KEYS, SHARES, UNMASK, block_of, vectors_of
from mrff.wire.aggregation.secure.primitives import SecureError
from mrff.wire.aggregation.secure.state import OPENED, SESSIONS
from strategies.mrff import MRFF
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

ITEM_TABLE = "item_features.style_table.weight"
ROWS = 9
STAGES = (KEYS, SHARES, "train", "evaluate", UNMASK)


def measured(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())["test"]
    return found


def leaving(stage: str, node: int = FIRST_NODE_ID + 1) -> type[LocalGrid]:
    """A grid in which one node answers no message of ``stage``."""

    class Leaving(LocalGrid):
        def _answer(self, message: Message) -> Message:
            about = message.metadata
            if (about.dst_node_id, about.message_type) == (node, stage):
                return Message(Error(code=2, reason="the node is gone"), reply_to=message)
            return super()._answer(message)

    return Leaving


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"server_optimizer": "average", "num_experts": 1}, 1e-6),
        ({"server_optimizer": "average", "user_weighting": "targets"}, 2e-3),
        ({"objective": "next", "linear_items": 20, "server_optimizer": "average"}, 2e-3),
        ({}, 0.05),  # Adam's first steps have the size of its rate, however small a gradient is
    ],
    ids=["one expert", "weighted", "next with linear models", "Adam"],
)
def test_a_secure_run_gives_the_model_of_a_plain_one(
    small_data: Path, tmp_path: Path, settings: dict[str, Any], most: float
) -> None:
    """Ten rounds; where there are groups, a user between two of them may come to the other one."""
    for name, secure in (("plain", False), ("secure", True)):
        run_federation(
            small_data,
            tmp_path,
            nodes=3,
            name=name,
            secure_aggregation=secure,
            num_server_rounds=10,
            evaluate_every=10,
            **settings,
        )
    plain, secure = (shared_arrays(tmp_path, name) for name in ("plain", "secure"))
    assert plain.keys() == secure.keys()
    worst = max(float(np.abs(plain[n] - secure[n]).max()) for n in plain)
    assert 0.0 < worst < most
    first, second = measured(tmp_path, "plain"), measured(tmp_path, "secure")
    for measure, value in first.items():
        if isinstance(value, float):
            assert second[measure] == pytest.approx(value, abs=0.02), measure


def test_whoever_looks_through_masked_replies_is_refused_and_nothing_is_sent(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking would send all messages, and adding up would send them again."""

    def looks_first(self: MRFF, server_round: int, replies: Iterable[Message]) -> Any:
        list(replies)
        return aggregate(self, server_round, replies)

    asked: list[str] = []

    class Counting(LocalGrid):
        def _answer(self, message: Message) -> Message:
            asked.append(message.metadata.message_type)
            return super()._answer(message)

    aggregate = MRFF.aggregate_train
    monkeypatch.setattr(MRFF, "aggregate_train", looks_first)
    with pytest.raises(TypeError, match=r"masked: hand them on to super\(\)\.aggregate_train"):
        run_federation(
            small_data, tmp_path, nodes=2, name="s", secure_aggregation=True, grid_type=Counting
        )
    assert asked.count(SHARES) == 2
    assert "train" not in asked


def test_all_replies_are_blocks_of_one_length_and_none_is_readable(
    small_data: Path, tmp_path: Path
) -> None:
    """Node 2 of 3 has users whom nobody drew in round 1; nobody can tell."""
    grid = run_federation(
        small_data, tmp_path, nodes=3, name="s", secure_aggregation=True, record=True,
        num_server_rounds=1, evaluate_every=1, sampling_rate=0.05,
    )  # fmt: skip
    replies = [recorddict_from_proto(ProtoRecordDict.FromString(r)) for r in grid.replies]
    blocks = [block_of(reply) for reply in replies]  # raises if a reply holds anything else
    masked = []
    for block in blocks:
        try:
            masked.append(vectors_of(block))
        except SecureError:
            continue
    lengths = {(len(v.numbers), len(v.arrays)) for v in masked}
    assert len(masked) == 3 * 3  # training, validation, test
    assert len(lengths) == 2  # with arrays, and without
    for vectors in masked:
        share = np.unpackbits(vectors.numbers.view(np.uint8)).mean()
        assert 0.4 < share < 0.6  # counts would be nearly all zeros


@pytest.mark.parametrize("stage", STAGES)
def test_one_of_five_nodes_leaves_in_any_stage_and_the_run_goes_on(
    small_data: Path, tmp_path: Path, stage: str
) -> None:
    run_federation(
        small_data, tmp_path, nodes=5, name="s", secure_aggregation=True,
        num_server_rounds=2, evaluate_every=1, grid_type=leaving(stage),
    )  # fmt: skip
    assert np.isfinite(measured(tmp_path, "s")["log_loss"])


def test_below_the_threshold_the_round_is_dropped_and_the_model_stays(
    small_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RoundFailedError, match=r"secure sum of 2 nodes failed, nothing was opened"):
        run_federation(
            small_data, tmp_path, nodes=2, name="s", secure_aggregation=True,
            num_server_rounds=1, grid_type=leaving("train"),
        )  # fmt: skip


def test_a_secure_run_is_taken_up_again_and_equals_one_that_never_stopped(
    small_data: Path, tmp_path: Path
) -> None:
    """It stops for want of nodes in round 3, which is asked again of all."""

    class Gone(LocalGrid):
        def _answer(self, message: Message) -> Message:
            if message.metadata.message_type == KEYS and message.metadata.group_id == "3":
                return Message(Error(code=2, reason="the node is gone"), reply_to=message)
            return super()._answer(message)

    settings: dict[str, Any] = {
        "secure_aggregation": True, "nodes": 3, "num_server_rounds": 4, "num_experts": 1,
        "server_optimizer": "average",
    }  # fmt: skip
    with pytest.raises(RoundFailedError, match="round 3"):
        run_federation(small_data, tmp_path, name="s", grid_type=Gone, **settings)
    run_federation(small_data, tmp_path, name="", resume="s", **settings)
    run_federation(small_data, tmp_path, name="whole", **settings)
    resumed, whole = shared_arrays(tmp_path, "s"), shared_arrays(tmp_path, "whole")
    for name, array in whole.items():
        np.testing.assert_allclose(resumed[name], array, atol=1e-6, err_msg=name)


def test_secrets_go_with_their_session_and_what_was_opened_stays(
    small_data: Path, tmp_path: Path
) -> None:
    run_federation(small_data, tmp_path, nodes=2, name="s", secure_aggregation=True)
    kept = sorted(path.name for path in (tmp_path / "state").rglob("secure-*.sqlite"))
    assert kept == [OPENED, SESSIONS, SESSIONS]
    for path in (tmp_path / "state").rglob(SESSIONS):
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT COUNT(*) FROM secrets").fetchone() == (0,)

"""Compressed messages in whole runs: small, reproducible, and safe from nodes that answer badly."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from client_app.app import app as client_app
from mrff.config import ConfigError, RunConfig, full_names
from mrff.privacy.mechanisms import mechanism_of
from mrff.wire.packing import FORMAT, pack, unpack
from mrff.wire.records import arrays_in, packed_record, record_of_block, rounded_record
from mrff.wire.rounding import ROUNDINGS, Rounding
from server_app import parts
from server_app.app import app as server_app
from server_app.run.checkpoint import load_checkpoint
from server_app.run.history import read_history
from strategies.schedule import Schedule
from tests.support.federation import run_federation, shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

ON: dict[str, Any] = {"item_statistics": True, "closed_form_factors": 3, "feature_dim": 32}
SMALL: dict[str, Any] = {**ON, "compression": "4-bit", "num_server_rounds": 4}


def entries(home: Path, name: str, kind: str = "round") -> list[dict[str, Any]]:
    history = read_history(home / "runs" / name / "history.jsonl")
    return [entry for entry in history if entry["kind"] == kind]


def assert_same_end(home: Path, one: str, other: str) -> None:
    ours, theirs = shared_arrays(home, one), shared_arrays(home, other)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_rounds_are_eight_times_smaller_and_history_counts_what_travels(
    small_data: Path, tmp_path: Path
) -> None:
    weighed = {}
    for width in ("none", "4-bit"):
        run_federation(
            small_data, tmp_path, nodes=2, name=width, evaluate_every=9, sampling_rate=1.0,
            **{**SMALL, "compression": width},
        )  # fmt: skip
        later = entries(tmp_path, width)[1:-1]  # the model travels whole once
        weighed[width] = [e["bytes_up"] + e["bytes_down"] for e in later]
        assert all(e["replies"] == 2 for e in later)
    assert min(weighed["none"]) > 8 * max(weighed["4-bit"])


def test_the_last_model_is_tested_exactly_as_it_is_saved(small_data: Path, tmp_path: Path) -> None:
    grid = run_federation(small_data, tmp_path, nodes=2, name="exact", record=True, **SMALL)
    test = recorddict_from_proto(ProtoRecordDict.FromString(grid.requests[-1]))
    best = load_checkpoint(tmp_path / "runs/exact/checkpoint").state.best_public
    sent = arrays_in(test, "public", required=True)
    assert sent
    for name, array in sent.items():
        np.testing.assert_array_equal(array, best[name])


@pytest.mark.parametrize("width", ["8-bit", "4-bit"])
def test_the_same_run_twice_and_one_that_is_resumed(
    width: str, small_data: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "compression": width, "server_decay_rounds": 4, "evaluate_every": 1}
    for name in ("once", "again"):
        run_federation(small_data, tmp_path, nodes=2, name=name, shuffle_seed=1, **settings)
    assert_same_end(tmp_path, "once", "again")
    broken = {**settings, "num_server_rounds": 2}
    run_federation(small_data, tmp_path, nodes=2, name="broken", **broken)
    shutil.rmtree(tmp_path / "state" / "broken" / "held")
    run_federation(small_data, tmp_path, nodes=2, name="", resume="broken", **settings)
    assert_same_end(tmp_path, "once", "broken")


def test_a_validation_of_its_own_is_of_the_same_model(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, beside in (("beside", True), ("apart", False)):

        def schedule(*, beside: bool = beside, **keywords: Any) -> Schedule:
            return Schedule(**{**keywords, "beside": beside})

        monkeypatch.setattr(parts, "Schedule", schedule)
        run_federation(small_data, tmp_path, nodes=2, name=name, **{**SMALL, "evaluate_every": 2})
    assert_same_end(tmp_path, "beside", "apart")
    ours, theirs = (
        [e["auc"] for e in entries(tmp_path, n, "validation")] for n in ("beside", "apart")
    )
    assert ours == theirs


@pytest.mark.parametrize("width", ["none", "4-bit"])
def test_nodes_that_lose_what_they_hold_change_nothing(
    width: str, small_data: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "compression": width}
    run_federation(small_data, tmp_path, nodes=2, name="kept", **settings)

    lost: list[int] = []

    class Forgetful(LocalGrid):
        def _answer(self, message: Message) -> Message:
            about = message.metadata
            if (about.message_type, about.group_id) == (MessageType.TRAIN, "3") and not lost:
                shutil.rmtree(tmp_path / "state" / "lost" / "held")
                lost.append(about.dst_node_id)
            return super()._answer(message)

    run_federation(small_data, tmp_path, nodes=2, name="lost", grid_type=Forgetful, **settings)
    assert_same_end(tmp_path, "kept", "lost")
    before, after = (entries(tmp_path, name) for name in ("kept", "lost"))
    assert [(e["replies"], e["rejected"], e["missing"]) for e in after] == 4 * [(2, [], [])]
    more = [b["bytes_down"] - a["bytes_down"] for a, b in zip(before, after, strict=True)]
    assert (more[0], more[1], more[3]) == (0, 0, 0)
    assert more[2] > 0


def updates(block: bytes, format_: str = Rounding(4).format) -> Callable[[RecordDict], object]:
    return lambda reply: reply.update(updates=record_of_block(block, format_))


def changed(**parts_: np.ndarray) -> Callable[[RecordDict], object]:
    """Parts of the rounded block, in place of its own."""

    def attack(reply: RecordDict) -> None:
        honest = unpack(zlib.decompress(reply["updates"]["arrays"].data))
        updates(zlib.compress(pack({**honest, **parts_})))(reply)

    return attack


def scaled(value: float) -> Callable[[RecordDict], object]:
    def attack(reply: RecordDict) -> None:
        honest = unpack(zlib.decompress(reply["updates"]["arrays"].data))
        changed(largest=np.full_like(honest["largest"], value))(reply)

    return attack


def flipped(reply: RecordDict) -> None:
    block = bytearray(reply["updates"]["arrays"].data)
    block[len(block) // 2] ^= 1
    updates(bytes(block))(reply)


def other_width(reply: RecordDict) -> None:
    reply["updates"] = rounded_record(arrays_in(reply, "updates", wanted=ROUNDINGS), Rounding(8), 0)


def uncompressed(reply: RecordDict) -> None:
    reply["updates"] = packed_record(arrays_in(reply, "updates", wanted=ROUNDINGS))


ATTACKS: list[tuple[Callable[[RecordDict], object], str]] = [
    (flipped, "'updates' cannot be read: not zlib"),
    (updates(zlib.compress(bytes(50 << 20), 9)), "it unpacks to more than"),
    (scaled(np.nan), "has the scale nan"),
    (scaled(np.inf), "has the scale inf"),
    (scaled(-1.0), "has the scale -1.0"),
    (changed(values=np.zeros(1, np.uint8)), "its header claims"),
    (uncompressed, f"comes as {FORMAT}, it has to come as rounded-4"),
    (other_width, "comes as rounded-8, it has to come as rounded-4"),
    (updates(b"", "x" * 1000), f"comes as {'x' * 40}, it has to come as rounded-4"),
]


def test_a_run_goes_on_as_if_such_nodes_had_not_answered(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(message: Message, context: Context) -> bool:
        train = message.metadata.message_type == MessageType.TRAIN
        return train and context.node_config["partition-id"] == 1

    def hostile(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if bad(message, context):
            ATTACKS[message.content["round"]["round"] - 1][0](reply.content)
        return reply

    def absent(message: Message, context: Context) -> Message:
        if bad(message, context):
            raise ConnectionError("absent")
        return client_app(message, context)

    for name, node in (("hostile", hostile), ("absent", absent)):
        config = full_names(
            {
                "data-dir": str(small_data), "home": str(tmp_path), "name": name,
                "expected-nodes": 3, "num-server-rounds": len(ATTACKS), "evaluate-every": 99,
                "feature-dim": 4, "window-length": 8, "sampling-rate": 1.0, "tensorboard": False,
                "compression": "4-bit", "fit-settings": False,
            }
        )  # fmt: skip
        grid = LocalGrid(node, 3, config)
        server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
    rounds = entries(tmp_path, "hostile")
    for (_, reason), entry in zip(ATTACKS, rounds, strict=True):
        (rejection,) = entry["rejected"]
        assert (entry["sent"], entry["replies"]) == (3, 2)
        assert rejection["node"] == FIRST_NODE_ID + 1
        assert reason in rejection["reason"], (entry["round"], rejection)
        assert "\n" not in rejection["reason"]
        assert f"reply of node {rejection['node']} rejected: {rejection['reason']}" in caplog.text
    assert_same_end(tmp_path, "hostile", "absent")


@pytest.mark.parametrize("mode", ["local-dp-sgd", "laplace"])
def test_modes_whose_nodes_add_the_noise_round_afterwards(
    mode: str, small_data: Path, tmp_path: Path
) -> None:
    run_federation(
        small_data, tmp_path, nodes=2, name=mode, compression="4-bit", noise_multiplier=0.1,
        delta=1e-3, **{"privacy.mode": mode},
    )  # fmt: skip
    history = read_history(tmp_path / "runs" / mode / "history.jsonl")
    assert [e["replies"] for e in history if "replies" in e] == [2] * len(history)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"privacy.mode": "central-user"},
            "server.compression=4-bit cannot go with privacy.mode=central-user: a user can change "
            "the rounding of their node's whole sum, by more than privacy.clipping-norm; "
            "use server.compression=none",
        ),
        (
            {"secure-aggregation": True},
            "server.compression=4-bit cannot go with privacy.secure-aggregation=true: masked sums "
            "look random and have bits of their own; use server.compression=none, and "
            "privacy.secure-ring-bits=16 for less",
        ),
        ({"compression": "2-bit"}, "server.compression must be one of none, 8-bit, 4-bit, got"),
    ],
)
def test_what_cannot_be_is_one_line(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mechanism_of(RunConfig.from_flat(full_names({"compression": "4-bit", **values})))
    assert str(caught.value).startswith(reason)

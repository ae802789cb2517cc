"""Nodes that answer nonsense: a run goes on exactly as if they had not answered at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict

from client_app.app import app as client_app
from mrff_model.packing import FORMAT, PACKED
from server_app.app import app as server_app
from server_app.run.history import read_history
from strategies.messages import packed_record
from strategies.replies import arrays_in
from tests.support.federation import shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

NODES, HOSTILE = 4, 2  # the hostile one is node FIRST_NODE_ID + HOSTILE
Attack = Callable[[RecordDict], Any]


@contextmanager
def opened(reply: RecordDict, part: str = "public") -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a part, which goes back with what was done to them."""
    arrays = arrays_in(reply, part)
    yield arrays
    reply[part] = packed_record(arrays)


def block(data: bytes) -> ArrayRecord:
    """A record that says of any bytes that they are arrays."""
    return ArrayRecord({PACKED: Array("uint8", (len(data),), FORMAT, data)})


def replaced(change: Callable[[np.ndarray], np.ndarray], part: str = "public") -> Attack:
    def attack(reply: RecordDict) -> None:
        with opened(reply, part) as arrays:
            name = next(iter(arrays))
            arrays[name] = change(arrays[name])

    return attack


def metric(**values: Any) -> Attack:
    def attack(reply: RecordDict) -> None:
        for name, value in values.items():
            reply["metrics"][name.replace("_", "-")] = value

    return attack


def lacks_an_array(reply: RecordDict) -> None:
    with opened(reply) as arrays:
        arrays.popitem()


def has_one_too_many(reply: RecordDict) -> None:
    with opened(reply) as arrays:
        arrays["backdoor"] = np.zeros(1, np.float32)


def is_huge(reply: RecordDict) -> None:
    with opened(reply) as arrays:
        arrays["filling"] = np.zeros(8 << 20, np.float32)


def announces_more_than_it_holds(reply: RecordDict) -> None:
    """A header that makes a careless reader allocate terabytes."""
    size = 4 * 10**12
    array = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"head.output.weight": array}).encode()
    reply["public"] = block(len(header).to_bytes(8, "little") + header + bytes(64))


def is_no_array(reply: RecordDict) -> None:
    reply["public"] = block(b"not what safetensors writes")


def keeps_nothing(reply: RecordDict) -> None:
    for name in list(reply):
        del reply[name]


# What the hostile node does to its reply in round 1, 2, ..., and the reason that is to be given.
ATTACKS: list[tuple[Attack, str]] = [
    (replaced(lambda array: array[:-1]), "must have shape"),
    (lacks_an_array, "lacks the array"),
    (has_one_too_many, "which was not expected"),
    (replaced(lambda array: np.full_like(array, np.nan)), "non-finite"),
    (replaced(lambda array: np.full_like(array, np.inf), part="group"), "non-finite"),
    (replaced(lambda array: array.astype(np.float64)), "must be float32"),
    (metric(weight=1e12), "expert-weight is above weight, or below it"),
    (metric(weight=float("nan")), "weight must be a finite number"),
    (metric(num_users=-5), "num-users must be a whole number"),
    (replaced(lambda array: array + 1e6), "more than max-update-norm=1000"),
    (metric(round=1), "it answers round 1, asked was 11"),
    (is_huge, "no honest one more than"),
    (announces_more_than_it_holds, "cannot be read"),
    (is_no_array, "cannot be read"),
    (keeps_nothing, "the record 'metrics' is missing"),
]


def run(data: Path, home: Path, name: str, node: Callable[[Message, Context], Message]) -> None:
    config: dict[str, Any] = {
        "data-dir": str(data),
        "home": str(home),
        "run-name": name,
        "expected-nodes": NODES,
        "num-server-rounds": len(ATTACKS),
        "evaluate-every": len(ATTACKS),
        "feature-dim": 3,
        "window-length": 8,
        "sampling-rate": 1.0,
        "max-update-norm": 1000.0,
        "tensorboard": False,
    }
    grid = LocalGrid(node, NODES, config)
    server_app(grid=grid, context=Context(1, 0, {}, RecordDict(), config))


def test_a_run_goes_on_as_if_hostile_nodes_had_not_answered(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def is_hostile(message: Message, context: Context) -> bool:
        is_train = message.metadata.message_type == MessageType.TRAIN
        return is_train and context.node_config["partition-id"] == HOSTILE

    def hostile(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if is_hostile(message, context):
            ATTACKS[message.content["round"]["round"] - 1][0](reply.content)
        return reply

    def absent(message: Message, context: Context) -> Message:
        if is_hostile(message, context):
            raise ConnectionError("absent")
        return client_app(message, context)

    run(small_data, tmp_path, "hostile", hostile)
    run(small_data, tmp_path, "absent", absent)

    history = read_history(tmp_path / "runs/hostile/history.jsonl")
    rounds = [entry for entry in history if entry["kind"] == "round"]
    for (_, reason), entry in zip(ATTACKS, rounds, strict=True):
        assert (entry["sent"], entry["replies"]) == (NODES, NODES - 1)
        (rejection,) = entry["rejected"]
        assert rejection["node"] == FIRST_NODE_ID + HOSTILE
        assert reason in rejection["reason"], (entry["round"], rejection)
        assert f"reply of node {rejection['node']} rejected: {rejection['reason']}" in caplog.text
    ours, theirs = (shared_arrays(tmp_path, name) for name in ("hostile", "absent"))
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (metric(positives=[-1] * 2048), "positives must hold whole numbers"),
        (metric(log_loss_sum=float("inf")), "log-loss-sum must be a finite number"),
        (metric(num_targets=10**9), "histograms count"),
    ],
    ids=["negative counts", "infinite loss", "invented targets"],
)
def test_evaluations_are_checked_alone_and_beside_training(
    small_data: Path, tmp_path: Path, attack: Attack, reason: str
) -> None:
    config: dict[str, Any] = {
        "data-dir": str(small_data), "home": str(tmp_path), "run-name": "r", "expected-nodes": 3,
        "num-server-rounds": 2, "evaluate-every": 1, "feature-dim": 3, "window-length": 8,
        "tensorboard": False,
    }  # fmt: skip

    def hostile(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if context.node_config["partition-id"] == 1:
            if "validation" in reply.content:
                attack(RecordDict({"metrics": reply.content["validation"]}))
            elif message.metadata.message_type == MessageType.EVALUATE:
                attack(reply.content)
        return reply

    server_app(grid=LocalGrid(hostile, 3, config), context=Context(1, 0, {}, RecordDict(), config))
    entries = read_history(tmp_path / "runs/r/history.jsonl")
    phases = [(entry["kind"], entry["round"]) for entry in entries if entry["rejected"]]
    assert phases == [("validation", 1), ("round", 2), ("validation", 2), ("test", phases[-1][1])]
    assert all(reason in e["rejected"][0]["reason"] for e in entries if e["rejected"])

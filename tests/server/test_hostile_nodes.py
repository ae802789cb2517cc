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
from mrff.config import full_names
from mrff.wire.packing import FORMAT, PACKED
from mrff.wire.records import arrays_in, packed_record
from mrff.wire.requests import BESIDE
from server_app.app import app as server_app
from server_app.run.history import read_history
from tests.support.federation import shared_arrays
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

NODES, HOSTILE = 4, 2  # the hostile one is node FIRST_NODE_ID + HOSTILE
Attack = Callable[..., Any]  # of a reply, and of what its numbers' names begin with


@contextmanager
def opened(reply: RecordDict) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a reply, which go back with what was done to them."""
    arrays = arrays_in(reply, "updates")
    yield arrays
    reply["updates"] = packed_record(arrays)


def block(data: bytes) -> ArrayRecord:
    """A record that says of any bytes that they are arrays."""
    return ArrayRecord({PACKED: Array("uint8", (len(data),), FORMAT, data)})


def replaced(change: Callable[[np.ndarray], np.ndarray], *, expert: bool = False) -> Attack:
    def attack(reply: RecordDict) -> None:
        with opened(reply) as arrays:
            name = next(name for name in arrays if (".experts." in name) == expert)
            arrays[name] = change(arrays[name])

    return attack


def number(**values: Any) -> Attack:
    def attack(reply: RecordDict, prefix: str = "") -> None:
        for name, value in values.items():
            reply["numbers"][prefix + name] = value

    return attack


def lacks_an_array(reply: RecordDict) -> None:
    with opened(reply) as arrays:
        del arrays[next(name for name in arrays if ".experts." not in name)]


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
    reply["updates"] = block(len(header).to_bytes(8, "little") + header + bytes(64))


def is_no_array(reply: RecordDict) -> None:
    reply["updates"] = block(b"not what safetensors writes")


def keeps_nothing(reply: RecordDict) -> None:
    for name in list(reply):
        del reply[name]


# What the hostile node does to its reply in round 1, 2, ..., and the reason that is to be given.
ATTACKS: list[tuple[Attack, str]] = [
    (replaced(lambda array: array[:-1]), "must have shape"),
    (lacks_an_array, "lacks the array"),
    (has_one_too_many, "which was not expected"),
    (replaced(lambda array: np.full_like(array, np.nan)), "non-finite"),
    (replaced(lambda array: np.full_like(array, np.inf), expert=True), "non-finite"),
    (replaced(lambda array: array.astype(np.float64)), "must be float32"),
    (number(weight=1e12), "weight 1e+12 is more than"),
    (number(weight=float("nan")), "weight must be a finite number"),
    (number(users=-5), "users must be a whole number"),
    (replaced(lambda array: array + 1e6), "more than max-update-norm=1000"),
    (number(round=1), "it answers round 1, asked was 11"),
    (is_huge, "no honest one more than"),
    (announces_more_than_it_holds, "cannot be read"),
    (is_no_array, "cannot be read"),
    (keeps_nothing, "the record 'numbers' is missing"),
]


def run(data: Path, home: Path, name: str, node: Callable[[Message, Context], Message]) -> None:
    config: dict[str, Any] = {
        "data-dir": str(data),
        "home": str(home),
        "run.name": name,
        "expected-nodes": NODES,
        "num-server-rounds": len(ATTACKS),
        "evaluate-every": len(ATTACKS),
        "feature-dim": 3,
        "window-length": 8,
        "sampling-rate": 1.0,
        "max-update-norm": 1000.0,
        "tensorboard": False,
    }
    start(config, node, NODES)


def start(
    settings: dict[str, Any], node: Callable[[Message, Context], Message], nodes: int
) -> None:
    config = full_names(settings)
    grid = LocalGrid(node, nodes, config)
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
        (number(positives=[-1] * 2048), "positives must hold whole numbers"),
        (number(log_loss_sum=float("inf")), "log_loss_sum must be a finite number"),
        (number(targets=10**9), "histograms count"),
    ],
    ids=["negative counts", "infinite loss", "invented targets"],
)
def test_evaluations_are_checked_alone_and_beside_training(
    small_data: Path, tmp_path: Path, attack: Attack, reason: str
) -> None:
    """A reply with a bad validation counts for nothing: as if its node had not answered."""

    def is_hostile(message: Message, context: Context) -> bool:
        asked = message.content["round"]["part"]  # training alone is left as it is
        return bool(asked) and context.node_config["partition-id"] == 1

    def hostile(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if is_hostile(message, context):
            is_train = message.metadata.message_type == MessageType.TRAIN
            attack(reply.content, BESIDE if is_train else "")
        return reply

    def absent(message: Message, context: Context) -> Message:
        reply = client_app(message, context)  # it has trained, and keeps what is its users' own
        if is_hostile(message, context):
            raise ConnectionError("absent")
        return reply

    found = {}
    for name, node in (("hostile", hostile), ("missing", absent)):  # names of one length: bytes
        settings: dict[str, Any] = {
            "data-dir": str(small_data), "home": str(tmp_path), "name": name, "expected-nodes": 3,
            "num-server-rounds": 2, "evaluate-every": 1, "feature-dim": 3, "window-length": 8,
            "tensorboard": False,
        }  # fmt: skip
        start(settings, node, 3)
        found[name] = read_history(tmp_path / "runs" / name / "history.jsonl")
    entries = found["hostile"]
    phases = [(entry["kind"], entry["round"]) for entry in entries if entry["rejected"]]
    assert phases == [("validation", 1), ("round", 2), ("validation", 2), ("test", phases[-1][1])]
    assert all(reason in e["rejected"][0]["reason"] for e in entries if e["rejected"])
    of_the_way = {"rejected", "bytes_up", "seconds"}
    counted = [
        [{k: v for k, v in entry.items() if k not in of_the_way} for entry in history]
        for history in found.values()
    ]
    assert counted[0] == counted[1]
    ours, theirs = (shared_arrays(tmp_path, name) for name in found)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)

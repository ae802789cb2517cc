"""Models in requests: what a node reads, and what it says to what it cannot read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict

from client_app.node import open_node
from mrff.data.dataset import load_dataset
from mrff.wire.records import array_record, arrays_in, packed_record
from mrff.wire.requests import Request, RequestError, RoundFacts, RunFacts

MODEL = {
    "head.output.bias": np.array([0.5], np.float32),
    "head.up.weight": np.ones((2, 3), np.float32),
}
GROUP = {"layers.0.experts.1.up_bias": np.zeros(2, np.float32)}
FACTS = RoundFacts(
    round=3, epoch_starts=[0, 2], checkpoint_round=2, best_round=1, loads=[0.25, 0.75],
    terms={"clipping-norm": 0.5}, part="valid",
)  # fmt: skip
REQUEST = Request(RunFacts("hash", "run", "/data", "/state"), FACTS, MODEL, GROUP)


def test_a_node_reads_what_the_server_sends_and_may_write_to_it() -> None:
    found = Request.read(REQUEST.content())
    assert (found.run, found.facts) == (REQUEST.run, FACTS)
    for part, sent in ((found.public, MODEL), (found.group, GROUP)):
        assert part.keys() == sent.keys()
        for name, array in part.items():
            tensor = torch.from_numpy(array)
            assert torch.equal(tensor, torch.from_numpy(sent[name]))
            tensor += 1.0
    assert MODEL["head.output.bias"] == 0.5


def test_nodes_and_server_pack_alike() -> None:
    tensors = {name: torch.from_numpy(array) for name, array in MODEL.items()}
    sent_by_node = packed_record({name: value.numpy() for name, value in tensors.items()})
    assert sent_by_node == REQUEST.content()["public"]
    assert arrays_in(RecordDict({"public": sent_by_node}), "public").keys() == MODEL.keys()


@pytest.mark.parametrize("public", [None, array_record(MODEL)])
def test_a_server_of_another_version_is_named(public: object) -> None:
    content = REQUEST.content()
    del content["public"]
    if public is not None:
        content["public"] = public  # type: ignore[assignment]
    expected = r"record 'public' must hold .*; is the server of the same version\?"
    with pytest.raises(RequestError, match=expected):
        Request.read(content)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"version": 2}, "request has version 2, this node reads 3: run the same version"),
        ({"part": "train"}, "part must be valid or test, got 'train'"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(
    changed: dict[str, object], expected: str
) -> None:
    content = REQUEST.content()
    about = {**content.config_records["round"], **changed}
    content["round"] = ConfigRecord(about)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=expected):
        Request.read(content)


def test_loads_of_another_network_are_refused(small_data: Path, tmp_path: Path) -> None:
    run = RunFacts(load_dataset(small_data).schema.schema_hash, "run")
    asked = replace(REQUEST, run=run)
    node = open_node({}, {"data-dir": str(small_data), "state-dir": str(tmp_path)}, asked)
    with pytest.raises(ValueError, match="loads must have 2 x 4 numbers, got 2"):
        node.model(asked)

"""Models in requests: what a node reads, and what it says to what it cannot read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import RecordDict

from client_app.rounds import tensors_in
from client_app.totals import packed_record as as_nodes_send
from mrff.config import ConfigError
from strategies.messages import array_record
from strategies.messages import packed_record as as_the_server_sends

MODEL = {"head.output.bias": np.float32([0.5]), "head.up.weight": np.ones((2, 3), np.float32)}


def test_a_node_reads_what_the_server_sends_and_may_write_to_it() -> None:
    tensors = tensors_in(RecordDict({"public": as_the_server_sends(MODEL)}), "public")
    assert tensors.keys() == MODEL.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, torch.from_numpy(MODEL[name]))
        tensor += 1.0
    assert MODEL["head.output.bias"] == 0.5


def test_nodes_and_server_pack_alike() -> None:
    tensors = {name: torch.from_numpy(array) for name, array in MODEL.items()}
    assert as_nodes_send(tensors) == as_the_server_sends(MODEL)


@pytest.mark.parametrize("content", [{}, {"public": array_record(MODEL)}])
def test_a_server_of_another_version_is_named(content: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no 'public' arrays; is the server of the same version"):
        tensors_in(RecordDict(content), "public")  # type: ignore[arg-type]

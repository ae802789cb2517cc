"""The audit's node without privacy answers what a node of a run answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict

from client_app.node import Node, open_node
from client_app.rounds import train_round
from client_app.totals import packed_record
from client_app.training import Start
from mrff.experiments.audits.nodes import PlainNode
from mrff_model.building import initial_shared
from strategies.replies import arrays_in

ROUNDS = (1, 2)  # the second one starts from private parameters that the first has changed


@pytest.fixture
def request_of(small_data: Path, tmp_path: Path) -> dict[str, object]:
    """The request of round 1."""
    from mrff.data.schema import Schema

    return {
        "round": 1, "epoch-starts": [0], "checkpoint-round": 0, "best-round": 0, "loads": [],
        "schema-hash": Schema.load(small_data).schema_hash, "training-id": "t",
        "data-dir": str(small_data), "state-dir": str(tmp_path), "split": "valid",
    }  # fmt: skip


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_the_plain_node_is_that_of_a_run(request_of: dict[str, object], rate: float) -> None:
    where = {"data-dir": request_of["data-dir"], "state-dir": request_of["state-dir"]}
    node = open_node({"sampling-rate": rate, "device": "cpu"}, where, request_of)
    public, group = (
        {name: torch.from_numpy(array) for name, array in part.items()}
        for part in initial_shared(node.network)
    )
    watched = PlainNode(node.config, node.dataset, node.network, node.users)
    for number in ROUNDS:
        asked = _run_reply(node, {**request_of, "round": number}, public, group)
        found = watched.answer(Start(number, public, group, loads=None), {})
        assert found.keys() == asked.keys() == {"public", "group", "metrics"}
        for part in ("public", "group"):
            of_run, of_audit = arrays_in(asked, part), arrays_in(found, part)
            assert of_audit.keys() == of_run.keys()
            for name, array in of_run.items():
                np.testing.assert_array_equal(of_audit[name], array, err_msg=name)
        unlike = {"seconds", "changed-users", "compared-users"}  # the audit compares no routes
        metrics = asked.metric_records["metrics"]
        for key in metrics.keys() - unlike:
            assert found.metric_records["metrics"][key] == metrics[key], key


def test_nobody_drawn_is_an_answer_without_arrays(request_of: dict[str, object]) -> None:
    where = {"data-dir": request_of["data-dir"], "state-dir": request_of["state-dir"]}
    node = open_node({"sampling-rate": 1e-9, "device": "cpu"}, where, request_of)
    public, group = (
        {name: torch.from_numpy(array) for name, array in part.items()}
        for part in initial_shared(node.network)
    )
    answer = PlainNode(node.config, node.dataset, node.network, node.users).answer(
        Start(1, public, group, loads=None), {}
    )
    assert answer.keys() == {"metrics"}
    assert answer.metric_records["metrics"]["num-users"] == 0


def _run_reply(
    node: Node,
    request: dict[str, object],
    public: dict[str, torch.Tensor],
    group: dict[str, torch.Tensor],
) -> RecordDict:
    content = {"public": packed_record(public), "group": packed_record(group)}
    return train_round(node, RecordDict({**content, "round": ConfigRecord(request)}))

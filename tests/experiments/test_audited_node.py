"""What an audit asks of a node: exact sums of one that forgets its noise, and an empty answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.node import Node, open_node
from client_app.train import train_round
from mrff.data.schema import Schema
from mrff.experiments.audits.training import Forgetful
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared


def opened(data: Path, state: Path, settings: dict[str, Any]) -> tuple[Node, Request]:
    """A node of a run with these settings, and the request of round 1."""
    run = RunFacts(Schema.load(data).schema_hash, "t", str(data), str(state))
    asked = Request(run, RoundFacts(1, terms={"clipping-norm": 0.5}), {}, {})
    where = {"data-dir": run.data_dir, "state-dir": run.state_dir}
    node = open_node({"training.device": "cpu", **settings}, where, asked)
    public, group = initial_shared(node.network)
    return node, replace(asked, public=public, group=group)


@pytest.mark.parametrize("mode", ["laplace", "local-dp-sgd"])
def test_a_node_that_forgets_its_noise_answers_exact_sums(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    settings = {"training.sampling-rate": 1.0, "privacy.mode": mode}
    node, asked = opened(small_data, tmp_path, settings)
    forgetful = replace(node, mechanism=Forgetful(node.mechanism))
    exact, again = (train_round(forgetful, asked).sums for _ in range(2))
    noisy = train_round(node, asked).sums
    assert exact.updates
    for name, array in exact.updates.items():
        np.testing.assert_array_equal(again.updates[name], array)
        assert (noisy.updates[name] != array).all(), name


def test_nobody_drawn_is_an_answer_without_arrays(small_data: Path, tmp_path: Path) -> None:
    node, asked = opened(small_data, tmp_path, {"training.sampling-rate": 1e-9})
    answer = train_round(node, asked).sums
    assert answer.updates == {}
    assert answer.number("users") == 0

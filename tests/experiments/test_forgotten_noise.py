"""The bug that an audit has to find: a mechanism without its noise answers exact sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_app.node import open_node
from client_app.train import train_round
from mrff.data.schema import Schema
from mrff.experiments.audits.training import Forgetful
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared


@pytest.mark.parametrize("mode", ["laplace", "local-dp-sgd"])
def test_a_node_that_forgets_its_noise_answers_exact_sums(
    small_data: Path, tmp_path: Path, mode: str
) -> None:
    run = RunFacts(Schema.load(small_data).schema_hash, "t", str(small_data), str(tmp_path))
    asked = Request(run, RoundFacts(1, terms={"clipping-norm": 0.5}), {}, {})
    settings = {"training.device": "cpu", "training.sampling-rate": 1.0, "privacy.mode": mode}
    where = {"data-dir": run.data_dir, "state-dir": run.state_dir}
    node = open_node(settings, where, asked)
    asked = replace(
        asked, **dict(zip(("public", "group"), initial_shared(node.network), strict=True))
    )
    forgetful = replace(node, mechanism=Forgetful(node.mechanism))
    exact, again = (train_round(forgetful, asked).sums for _ in range(2))
    noisy = train_round(node, asked).sums
    assert exact.updates
    for name, array in exact.updates.items():
        np.testing.assert_array_equal(again.updates[name], array)
        assert (noisy.updates[name] != array).all(), name

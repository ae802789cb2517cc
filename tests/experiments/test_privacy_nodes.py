"""The audit's node answers what a node of a run answers: without privacy, and without noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_app.node import Node, open_node
from client_app.train import train_round
from mrff.data.schema import Schema
from mrff.experiments.audits.nodes import AuditedNode
from mrff.privacy.noise import predictable
from mrff.sums import CohortSums
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared

ROUNDS = (1, 2)  # the second one starts from private parameters that the first has changed
Settings = Mapping[str, bool | int | float | str]
Opened = tuple[Node, Request]


@pytest.fixture
def opened(small_data: Path, tmp_path: Path) -> Callable[[Settings], Opened]:
    """Opens a node of a run with these settings, and makes the request of round 1."""
    run = RunFacts(Schema.load(small_data).schema_hash, "t", str(small_data), str(tmp_path))
    where = {"data-dir": run.data_dir, "state-dir": run.state_dir}
    asked = Request(run, RoundFacts(1, terms={"clipping-norm": 0.5}), {}, {})

    def open_with(settings: Settings) -> Opened:
        node = open_node({"training.device": "cpu", **settings}, where, asked)
        public, group = initial_shared(node.network)
        return node, replace(asked, public=public, group=group)

    return open_with


def audited(node: Node, *, noise: bool = True) -> AuditedNode:
    return AuditedNode(node.config, node.dataset, node.network, node.users, noise=noise)


def assert_equal(found: CohortSums, asked: CohortSums, *, unlike: frozenset[str]) -> None:
    assert found.updates.keys() == asked.updates.keys()
    for name, array in asked.updates.items():
        np.testing.assert_array_equal(found.updates[name], array, err_msg=name)
    assert found.numbers.keys() | unlike == asked.numbers.keys() | unlike
    for name in asked.numbers.keys() - unlike:
        assert found.numbers[name].tolist() == asked.numbers[name].tolist(), name


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_the_node_without_privacy_is_that_of_a_run(
    opened: Callable[[Settings], Opened], rate: float
) -> None:
    node, request = opened({"training.sampling-rate": rate})
    watched = audited(node)
    for number in ROUNDS:
        asked = replace(request, facts=replace(request.facts, round=number))
        of_run = train_round(node, asked).sums
        found = watched.answer(node.model(asked), {})
        assert of_run.updates
        # The audit compares no routes.
        assert_equal(found, of_run, unlike=frozenset({"changed", "compared"}))


@pytest.mark.parametrize("mode", ["local-dp-sgd", "central-user", "laplace"])
def test_the_node_of_a_private_mode_is_that_of_a_run(
    opened: Callable[[Settings], Opened], mode: str
) -> None:
    node, request = opened({"training.sampling-rate": 0.5, "privacy.mode": mode})
    watched = audited(node)
    with predictable(3):
        for number in ROUNDS:
            asked = replace(request, facts=replace(request.facts, round=number))
            of_run = train_round(node, asked).sums
            found = watched.answer(node.model(asked), request.facts.terms)
            assert of_run.updates
            assert_equal(found, of_run, unlike=frozenset())


def test_a_node_that_forgets_its_noise_answers_exact_sums(
    opened: Callable[[Settings], Opened],
) -> None:
    node, request = opened({"training.sampling-rate": 1.0, "privacy.mode": "laplace"})
    model, terms = node.model(request), request.facts.terms
    exact, again = (audited(node, noise=False).answer(model, terms) for _ in range(2))
    noisy = audited(node).answer(model, terms)
    for name, array in exact.updates.items():
        np.testing.assert_array_equal(again.updates[name], array)
        assert (noisy.updates[name] != array).all(), name


def test_nobody_drawn_is_an_answer_without_arrays(opened: Callable[[Settings], Opened]) -> None:
    node, request = opened({"training.sampling-rate": 1e-9})
    answer = audited(node).answer(node.model(request), {})
    assert answer.updates == {}
    assert answer.number("users") == 0

"""``data.holdout = 0``: all rows train; a share of users validates; nothing is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.evaluate import evaluate_round, score_users
from client_app.node import Node, open_node
from client_app.train import train_round
from mrff.config import ConfigError
from mrff.data.dataset import load_dataset
from mrff.data.windows import validation_users
from mrff.wire.requests import Part, Request, RoundFacts, RunFacts
from mrff_model.building import initial_shared
from tests.support.small_data import small_config

SHARE = 0.5  # of 15 users, so that some are held out and some are not


def opened(data: Path, home: Path, part: Part | str = "", **changes: Any) -> tuple[Node, Request]:
    """The only node of a run, and a request that carries the model it starts with."""
    settings = {"holdout": 0, "validation_users": SHARE, "sampling_rate": 1.0, **changes}
    run = RunFacts(load_dataset(data).schema.schema_hash, "t", str(data), str(home))
    empty = Request(run, RoundFacts(1, part=part), {}, {})
    config = small_config(**settings).to_flat()
    node = open_node(config, {"partition-id": 0, "num-partitions": 1}, empty)
    return node, Request(run, empty.facts, *initial_shared(node.network))


def test_everybody_trains_on_all_rows_but_those_held_out_on_none(
    small_data: Path, tmp_path: Path
) -> None:
    node, request = opened(small_data, tmp_path, window_length=200)
    sizes = np.diff(node.dataset.offsets)
    assert 0 < len(node.tested) < node.dataset.num_users
    assert sorted([*node.users, *node.tested]) == list(range(node.dataset.num_users))
    sums = train_round(node, request).sums
    assert sums.number("users") == len(node.users)
    assert sums.number("targets") == sizes[node.users].sum()
    kept = node.cohort(node.tested, up_to_round=1)
    assert (kept.routes == -1).all()  # no private state of theirs was written


def test_those_held_out_answer_for_their_last_row_only(small_data: Path, tmp_path: Path) -> None:
    node, request = opened(small_data, tmp_path, "valid")
    sums = score_users(node, request)
    assert sums.number("users") == sums.number("targets") == len(node.tested)
    assert sums.number("skipped") == len(node.users)
    last = node.dataset.labels[node.dataset.offsets[node.tested + 1] - 1]
    assert sums.numbers["positives"].sum() == last.sum()


def test_no_row_of_those_held_out_reaches_an_update(small_data: Path, tmp_path: Path) -> None:
    """The attack: other labels of held-out users must not show in what leaves the node."""
    node, request = opened(small_data, tmp_path)
    before = train_round(node, request).sums
    for user in node.tested:
        rows = slice(node.dataset.offsets[user], node.dataset.offsets[user + 1])
        node.dataset.labels[rows] = 1 - node.dataset.labels[rows]
    after = train_round(node, request).sums
    for name, update in before.updates.items():
        np.testing.assert_array_equal(update, after.updates[name])


@pytest.mark.parametrize("changes", [{}, {"mode": "laplace", "noise_multiplier": 1.0}])
def test_a_server_that_asks_for_a_test_gets_none(
    small_data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    node, request = opened(small_data, tmp_path, "test", **changes)
    with pytest.raises(ConfigError, match="no test to answer"):
        evaluate_round(node, request)


def test_a_private_run_holds_nobody_out_and_answers_no_validation(
    small_data: Path, tmp_path: Path
) -> None:
    private = {"mode": "central-user", "noise_multiplier": 1.0}
    node, request = opened(small_data, tmp_path, "valid", **private)
    assert len(node.users) == node.dataset.num_users
    assert not len(node.tested)
    with pytest.raises(ConfigError, match="answers no other evaluation"):
        evaluate_round(node, request)


def test_held_out_users_are_the_same_in_every_layout(small_data: Path, tmp_path: Path) -> None:
    whole = load_dataset(small_data)
    expected = set(whole.user_keys[validation_users(whole, SHARE)].tolist())
    found: set[int] = set()
    run = RunFacts(whole.schema.schema_hash, "t", str(small_data), str(tmp_path))
    config = small_config(holdout=0, validation_users=SHARE).to_flat()
    for number in range(4):
        place = {"partition-id": number, "num-partitions": 4}
        node = open_node(config, place, Request(run, RoundFacts(1), {}, {}))
        found |= set(node.dataset.user_keys[node.tested].tolist())
    assert found == expected

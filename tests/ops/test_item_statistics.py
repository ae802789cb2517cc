"""Answers of runs whose head reads item statistics: alone, in lists, exported, to newcomers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners.base import as_batch
from mrff.data.dataset import load_dataset
from mrff.data.windows import evaluation_records
from mrff.ops.export import export_user
from mrff.ops.lists import AllUsers
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import leave_one_out, recommend, score
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import UserModel, open_history, open_user
from mrff.ops.wish import Wish
from tests.support.federation import run_federation

EVERYTHING = np.arange(1, 21)


EXACT: dict[str, Any] = {"closed_form_factors": 3}
NOISED: dict[str, Any] = {"mode": "central-user", "delta": 1e-3, "item_noise": 0.3}


@pytest.fixture(scope="module", params=[EXACT, NOISED], ids=["exact", "noised"])
def nodes(
    request: pytest.FixtureRequest, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> NodesAtHand:
    """Windows are shorter than histories: a taste is read from rows before them as well."""
    home = tmp_path_factory.mktemp("statistics")
    run_federation(
        small_data, home, nodes=2, name="run", sampling_rate=1.0, window_length=6,
        item_statistics=True, kind_statistics=True, **request.param,
    )  # fmt: skip
    return NodesAtHand(load_best(find_run(str(home / "runs" / "run"))))


@pytest.fixture
def user(nodes: NodesAtHand) -> UserModel:
    found = open_user(nodes, load_dataset(nodes.dataset_folder).user_ids[3], before_test=True)
    assert len(found.items) > found.most_history
    return found


def test_an_answer_before_the_test_is_what_the_test_scored(
    nodes: NodesAtHand, user: UserModel
) -> None:
    """Rows that are counted, and those before the window, are told apart as in an evaluation."""
    node, rows = user.node, np.array([user.row])
    records = evaluation_records(node.dataset, rows, length=6, holdout=1, part="test")
    batch = as_batch(records, node.dataset, rows, node.config)
    with torch.no_grad():
        scored = user.network(batch).logits[batch.mask]
    asked, *_ = score(user, batch.targets[batch.mask].numpy())
    assert asked is not None
    # The test's window has room for one row less than the history: the rest of it is the past.
    np.testing.assert_allclose(asked, scored.double().numpy(), atol=2e-5)


def test_rows_before_the_window_count(user: UserModel) -> None:
    before = len(user.items) - user.most_history
    other = user.labels.copy()
    other[:before] = 1 - other[:before]
    stranger = replace(user, row=None)  # whose rows are their own word, not the node's
    one, two = (score(replace(stranger, labels=v), EVERYTHING)[0] for v in (user.labels, other))
    assert one is not None
    assert two is not None
    assert (one != two).any()


def test_lists_of_all_users_are_those_that_each_one_gets(nodes: NodesAtHand) -> None:
    wish, found = Wish(5), {}
    for lists in AllUsers(nodes, wish).lists():
        found |= dict(zip(lists.users, lists.best.items.tolist(), strict=True))
    for name, items in list(found.items())[:4]:
        assert recommend(open_user(nodes, name), wish).items.tolist() == items


def test_everybody_is_answered(nodes: NodesAtHand, user: UserModel) -> None:
    assert len(recommend(open_history(nodes, np.array([2, 5, 7])), Wish(3)).items) == 3
    assert len(recommend(open_user(nodes, "nobody"), Wish(3)).items) == 3
    assert np.isfinite(leave_one_out(user, EVERYTHING[:3])).all()


@pytest.mark.slow
def test_a_device_answers_with_the_rows_before_its_window(
    nodes: NodesAtHand, user: UserModel, tmp_path: Path
) -> None:
    difference = export_user(user, nodes, tmp_path / "device")
    assert difference is not None
    assert difference < 1e-4

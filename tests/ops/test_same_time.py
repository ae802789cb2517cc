"""Answers of runs that read times: whoever asks now knows all labels, and asks at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mrff.data.dataset import load_dataset
from mrff.ops.export import export_user
from mrff.ops.histories import asked_after
from mrff.ops.lists import AllUsers
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import leave_one_out, recommend, score
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import UserModel, open_history, open_user
from mrff.ops.wish import Wish
from tests.support.federation import run_federation
from tests.support.tied_data import tied

EVERYTHING = np.arange(1, 21)


@pytest.fixture(scope="module")
def nodes(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> NodesAtHand:
    """A run on rows of which three happened at a time."""
    home = tmp_path_factory.mktemp("same time")
    data = tied(small_data, home / "tied")
    run_federation(
        data, home, nodes=2, name="run", same_time="unknown", sampling_rate=1.0,
        server_learning_rate=0.1, time_inputs=True, history_times=True,
    )  # fmt: skip
    return NodesAtHand(load_best(find_run(str(home / "runs" / "run"))))


@pytest.fixture
def user(nodes: NodesAtHand) -> UserModel:
    return open_user(nodes, load_dataset(nodes.dataset_folder).user_ids[3])


def cut(user: UserModel, kept: np.ndarray | slice) -> UserModel:
    assert user.times is not None
    times = user.times[kept]
    return replace(user, items=user.items[kept], labels=user.labels[kept], times=times)


def test_every_label_moves_an_answer_that_is_asked_for_now(user: UserModel) -> None:
    assert user.times is not None
    assert user.times[-1] == user.times[-2]
    logits, *_ = score(user, EVERYTHING)
    for place in (-1, -2):
        labels = user.labels.copy()
        labels[place] = 1 - labels[place]
        other, *_ = score(replace(user, labels=labels), EVERYTHING)
        assert logits is not None
        assert (logits != other).all()
    apart = replace(user, times=np.arange(len(user.items)))
    other, *_ = score(apart, EVERYTHING)
    assert not np.array_equal(logits, other)  # labels shown between rows of one time


def test_an_answer_depends_on_when_it_is_asked_for(user: UserModel) -> None:
    """As long after the last item as the user's pauses are."""
    assert user.times is not None
    (clock,) = user.histories.times
    assert clock[0, 0, -1] - clock[0, 0, -2] == 5_000 * 10**9
    later = user.histories._replace(times=(clock + torch.eye(16)[-1].long() * 10**15,))
    with torch.no_grad():
        one, other = (
            user.network.score_items(histories, torch.from_numpy(EVERYTHING)).logits
            for histories in (user.histories, later)
        )
    assert (one != other).all()


def test_pauses_by_hand() -> None:
    """Two of 3, one of 4; none at all; no history."""
    assert asked_after(np.array([[1, 1, 4, 7, 11]])).tolist() == [[1, 1, 4, 7, 11, 14]]
    assert asked_after(np.array([[5, 5], [9, 9]])).tolist() == [[5, 5, 6], [9, 9, 10]]
    assert asked_after(np.zeros((2, 0), dtype=np.int64)).tolist() == [[1], [1]]


def test_lists_of_all_users_are_those_that_each_one_gets(nodes: NodesAtHand) -> None:
    wish, found = Wish(5), {}
    for lists in AllUsers(nodes, wish).lists():
        found |= dict(zip(lists.users, lists.best.items.tolist(), strict=True))
    for name, items in list(found.items())[:4]:
        assert recommend(open_user(nodes, name), wish).items.tolist() == items


def test_what_moved_an_answer_leaves_out_an_item_with_its_time(user: UserModel) -> None:
    recent = cut(user, slice(-9, None))  # as many as the window has room for
    parts = leave_one_out(recent, EVERYTHING[:3])
    without = cut(recent, np.arange(9) != 7)
    one, other = (score(history, EVERYTHING[:3])[0] for history in (recent, without))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(parts[7], one - other, atol=1e-6)


def test_somebody_in_no_data_is_answered_too(nodes: NodesAtHand) -> None:
    assert len(recommend(open_history(nodes, np.array([2, 5, 7])), Wish(3)).items) == 3
    assert len(recommend(open_user(nodes, "nobody"), Wish(3)).items) == 3


@pytest.mark.slow
def test_a_device_gives_the_times_of_its_history(
    nodes: NodesAtHand, user: UserModel, tmp_path: Path
) -> None:
    difference = export_user(user, nodes, tmp_path / "device")
    assert difference is not None
    session = onnxruntime.InferenceSession(tmp_path / "device" / "model.onnx")
    assert user.times is not None
    recent = {
        "history": user.recent()[0],
        "feedback": user.recent()[1] + 1,
        "candidates": EVERYTHING,
    }
    for times in (user.times, np.arange(len(user.times))):
        inputs = {**recent, "times": asked_after(times[None, -user.most_history :])[0]}
        (found,) = session.run(["probabilities"], inputs)
        logits, *_ = score(replace(user, times=times), EVERYTHING)
        assert logits is not None
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)

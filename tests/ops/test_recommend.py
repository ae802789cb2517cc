from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrff.cli.main import main
from mrff.data.dataset import load_dataset, load_titles
from mrff.data.prepare import prepare
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import leave_one_out, recommend, score
from mrff.ops.trained_run import BestModel, find_run, load_best
from mrff.ops.user_model import UserModel, open_user
from mrff.ops.wish import Wish
from tests.support.federation import run_federation
from tests.support.scoring import scored_alone
from tests.support.trained import ROUNDS, RUN


@pytest.fixture
def best(at_home: Path) -> BestModel:
    return load_best(find_run(RUN))


@pytest.fixture
def user(best: BestModel, small_data: Path) -> UserModel:
    return open_user(NodesAtHand(best), load_dataset(small_data).user_ids[4])


def cut(user: UserModel, kept: np.ndarray | slice) -> UserModel:
    return replace(user, items=user.items[kept], labels=user.labels[kept])


def test_scores_are_those_that_the_run_was_tested_with(best: BestModel) -> None:
    """A user's last interaction as candidate, the ones before as history: the test of the run."""
    for node in NodesAtHand(best).open_all():
        cohort = node.cohort(node.users, up_to_round=best.round)
        tested = scored_alone(node.network, node.config, cohort)
        for row, user_id in enumerate(node.dataset.user_ids[node.users]):
            before = cut(open_user(NodesAtHand(best), user_id), slice(0, -1))
            last = open_user(NodesAtHand(best), user_id).items[-1:]
            logits, routes, _ = score(before, last)
            np.testing.assert_allclose(logits, tested.logits[row], atol=1e-5)
            assert routes.tolist() == tested.routes[row].tolist()


def test_rivals_with_private_heads_answer_too_and_clusters_are_refused(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"nodes": 1, "num_server_rounds": 2, "evaluate_every": 2, "sampling_rate": 1.0}
    one = {
        "num_experts": 1,
        "user_network_dim": "off",
        "user_embedding_dim": "off",
        "user_bias": False,
    }
    run_federation(small_data, tmp_path, name="head", private_parameters="head", **settings, **one)
    best = load_best(find_run(str(tmp_path / "runs" / "head")))
    (node,) = NodesAtHand(best).open_all()
    cohort = node.cohort(node.users, up_to_round=best.round)
    tested = scored_alone(node.network, node.config, cohort)
    for row, user_id in enumerate(node.dataset.user_ids[node.users]):
        whole = open_user(NodesAtHand(best), user_id)
        logits, _, _ = score(cut(whole, slice(0, -1)), whole.items[-1:])
        np.testing.assert_allclose(logits, tested.logits[row], atol=1e-5)

    run_federation(small_data, tmp_path, name="fedavg", **settings, **one)
    name = load_dataset(small_data).user_ids[0]
    assert main(["recommend", str(tmp_path / "runs" / "fedavg"), "--user", name]) == 0
    assert "nothing in it is private" in capsys.readouterr().out

    run_federation(small_data, tmp_path, name="ifca", clusters=2, **settings, **one)
    assert main(["recommend", str(tmp_path / "runs" / "ifca"), "--user", "u"]) == 2
    assert "learned clusters=2 copies of the network" in capsys.readouterr().err


def test_the_private_parameters_are_those_of_the_best_round_not_the_newest(
    best: BestModel,
) -> None:
    assert best.round < ROUNDS
    differ = 0
    for node in NodesAtHand(best).open_all():
        newest = node.cohort(node.users, up_to_round=ROUNDS)
        wanted = node.cohort(node.users, up_to_round=best.round)
        for row, user_id in enumerate(node.dataset.user_ids[node.users]):
            used = open_user(NodesAtHand(best), user_id).private
            for name, value in used.items():
                assert torch.equal(value[0], wanted.private[name][row]), name
            differ += int(not torch.equal(used["user_bias"][0], newest.private["user_bias"][row]))
    assert differ > 0


def test_the_best_unseen_items_best_first(user: UserModel) -> None:
    seen = set(user.items.tolist())
    unseen = [i for i in range(1, user.node.dataset.schema.num_items + 1) if i not in seen]
    assert len(unseen) > 1
    singly = {i: score(user, np.array([i]))[0][0] for i in unseen}
    found = recommend(user, Wish(3))
    assert found.items.tolist() == sorted(unseen, key=lambda i: -singly[i])[:3]
    np.testing.assert_allclose(found.logits, [singly[i] for i in found.items], atol=1e-5)
    assert ((found.probabilities > 0) & (found.probabilities < 1)).all()


def test_a_part_is_what_the_score_loses_without_the_item(user: UserModel) -> None:
    candidates = np.array([1, 5, 9])
    parts = leave_one_out(user, candidates)
    items, _ = user.recent()
    assert parts.shape == (len(items), 3)
    whole = score(user, candidates)[0]
    first = len(user.items) - len(items)
    recent = cut(user, slice(first, None))
    for j in range(len(items)):
        without = cut(recent, np.delete(np.arange(len(items)), j))
        np.testing.assert_allclose(parts[j], whole - score(without, candidates)[0], atol=1e-5)
    assert np.abs(parts).max() > 1e-3


def test_a_history_longer_than_the_window_is_cut_at_its_old_end(user: UserModel) -> None:
    longer = replace(
        user, items=np.resize(user.items, 3 * user.most_history),
        labels=np.resize(user.labels, 3 * user.most_history),
    )  # fmt: skip
    recent = cut(longer, slice(-user.most_history, None))
    assert score(longer, np.array([2]))[0] == score(recent, np.array([2]))[0]


def test_the_command_names_items_groups_and_what_moved_them(
    user: UserModel, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = load_dataset(small_data).user_ids[4]
    assert main(["recommend", RUN, "--user", name, "--top", "2", "--explain"]) == 0
    said = capsys.readouterr().out
    found = recommend(user, Wish(2))
    titles = load_titles(small_data)
    assert "with the user's private parameters" in said
    assert f"layer 1 group {found.routes[0] + 1}" in said
    assert f"layer 2 group {found.routes[1] + 1}" in said
    for item, chance in zip(found.items, found.probabilities, strict=True):
        assert titles[item] in said
        assert f"{chance:.3f}" in said
    assert "scored with it and without it" in said


def test_json_says_the_same(
    user: UserModel, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recommend", RUN, "--user", user.name, "--top", "2", "--explain", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    found = recommend(user, Wish(2))
    assert said["user"] == user.name
    assert said["has_own_parameters"] is True
    assert [group["group"] for group in said["groups"]] == (found.routes + 1).tolist()
    assert [item["code"] for item in said["items"]] == found.items.tolist()
    assert [item["probability"] for item in said["items"]] == found.probabilities.tolist()
    raised = [mover["part"] for mover in said["items"][0]["raised_by"]]
    parts = leave_one_out(user, found.items)[:, 0]
    assert raised == [part for part in sorted(parts, reverse=True)[:5] if part >= 0.005]
    assert raised


def test_an_unknown_user_gets_the_shared_model_and_is_told_so(
    at_home: Path, best: BestModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", RUN, "--user", "nobody", "--top", "1", "--explain"]) == 0
    said = capsys.readouterr().out
    assert (
        f"user nobody is unknown here: no history, the shared model of round {best.round}" in said
    )
    assert "no history, so nothing in it moved a score" in said
    nobody = open_user(NodesAtHand(best), "nobody")
    assert not nobody.is_known
    assert not nobody.has_own
    for name, value in nobody.private.items():
        assert torch.equal(value, nobody.node.initial_private[name])


def test_a_user_without_private_parameters_is_told_so(
    at_home: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = load_dataset(small_data).user_ids[0]
    arguments = ["recommend", RUN, "--user", name, "--state-dir", str(tmp_path)]
    assert main(arguments) == 0
    assert "the shared model with the user's own history" in capsys.readouterr().out


def test_a_run_copied_to_a_deployed_node_answers_from_the_nodes_own_folders(
    at_home: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only ``best/`` is there; data and state are named, as on a node with its own state-dir."""
    shutil.copytree(at_home / "runs" / RUN / "best", tmp_path / "copied" / "best")
    nodes = sorted((at_home / "state" / RUN).iterdir())
    (tmp_path / "state" / RUN).mkdir(parents=True)
    for segment in nodes[1].iterdir():
        shutil.copy(segment, tmp_path / "state" / RUN)
    name = load_dataset(small_data).user_ids[1]  # of node 1
    answers = []
    for where in (
        [RUN],
        [
            str(tmp_path / "copied"), "--data-dir", str(small_data),
            "--state-dir", str(tmp_path / "state"),
        ],
    ):  # fmt: skip
        assert main(["recommend", *where, "--user", name]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert "private parameters" in answers[0]


def broken(at_home: Path, tmp_path: Path, what: str) -> Path:
    """A copy of the run with something wrong."""
    copy = tmp_path / "hurt"
    shutil.copytree(at_home / "runs" / RUN, copy)
    about = copy / "best" / "best.json"
    content = json.loads(about.read_text())
    if what == "no best model":
        about.unlink()
    elif what == "cut best.json":
        about.write_text(about.read_text()[:40])
    elif what == "no round":
        about.write_text(json.dumps({k: v for k, v in content.items() if k != "round"}))
    elif what == "damaged model":
        (copy / "best" / content["model"]).write_bytes(b"nothing")
    elif what == "an unknown setting":
        content["config"]["num-exprts"] = 4
        about.write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no best model", "has no best model yet"),
        ("cut best.json", "best.json is damaged"),
        ("no round", "best.json is damaged (KeyError: 'round')"),
        ("damaged model", "is damaged"),
        ("an unknown setting", "unknown configuration key 'num-exprts'"),
    ],
)
def test_a_broken_run_is_one_clear_line(
    at_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, message: str
) -> None:
    copy = broken(at_home, tmp_path, what)
    for command in (["recommend"], ["export", "--out", str(tmp_path / "out")]):
        assert main([command[0], str(copy), "--user", "u", *command[1:]]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_answered_is_one_clear_line(
    at_home: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("synthetic", out=tmp_path / "other", options={"users": 5, "items": 9})
    damaged = tmp_path / "state" / RUN / "node-0-of-1"
    damaged.mkdir(parents=True)
    (damaged / "private.sqlite").write_bytes(b"nothing")
    user = load_dataset(small_data).user_ids[0]
    for arguments, message in (
        (["nowhere"], f"there is no run 'nowhere', neither as a folder nor in {at_home}/runs"),
        ([RUN, "--top", "0"], "top must be between 1 and 20 (the number of items), got 0"),
        ([RUN, "--data-dir", str(tmp_path / "other")], "has schema hash"),
        ([RUN, "--data-dir", str(tmp_path)], "is not a prepared dataset"),
        ([RUN, "--state-dir", str(tmp_path / "state")], "is damaged"),
    ):
        assert main(["recommend", *arguments, "--user", user]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_resumed_run_finds_its_private_versions_without_a_checkpoint(
    small_data: Path, tmp_path: Path
) -> None:
    """The best model itself says which epochs its run had."""
    settings = {"nodes": 2, "evaluate_every": 2, "sampling_rate": 1.0}
    run_federation(small_data, tmp_path, name="twice", num_server_rounds=2, **settings)
    run_federation(small_data, tmp_path, name="", resume="twice", num_server_rounds=8, **settings)
    best = load_best(find_run(str(tmp_path / "runs" / "twice")))
    assert best.epoch_starts[0] == 0
    shutil.rmtree(tmp_path / "runs" / "twice" / "checkpoint")
    again = load_best(find_run(str(tmp_path / "runs" / "twice")))
    assert again.epoch_starts == best.epoch_starts
    name = load_dataset(small_data).user_ids[0]
    assert open_user(NodesAtHand(again), name).has_own

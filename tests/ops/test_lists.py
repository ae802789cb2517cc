"""Lists of all users into a file: each as if the user had asked, and hits counted from outside."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrff.cli.main import main
from mrff.data.dataset import load_dataset, load_item_ids
from mrff.data.prepare import prepare
from mrff.data.targets import ending_with_targets
from mrff.data.windows import eligible_users
from mrff.data.writing import write_folder
from mrff.ops import best_items, list_files, lists
from mrff.ops.lists import AllUsers
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import recommend
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import open_history, open_user
from mrff.ops.wish import Wish
from tests.support.federation import run_federation
from tests.support.small_folders import chunk, prepared
from tests.support.trained import NEXT_RUNS

READ = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".json": pd.read_json}


def read(path: Path) -> pd.DataFrame:
    return READ[path.suffix](path)


def nodes_of(home: Path, run: str) -> NodesAtHand:
    return NodesAtHand(load_best(find_run(str(home / "runs" / run))))


def to_file(run: Path, out: Path, *more: str) -> int:
    return main(["recommend", str(run), "--all-users", "--out", str(out), *more])


def check_against_each_user(nodes: NodesAtHand, wish: Wish, *, before_test: bool = False) -> None:
    asked, seen = AllUsers(nodes, wish, before_test), 0
    for part in asked.lists():
        for row, name in enumerate(part.users):
            alone = recommend(open_user(nodes, name, before_test=before_test), wish)
            listed = part.best.items[row] > 0
            assert part.best.items[row][listed].tolist() == alone.items.tolist()
            np.testing.assert_allclose(part.best.scores[row][listed], alone.scores, atol=1e-5)
            assert part.best.routes[row].tolist() == alone.routes.tolist()
            np.testing.assert_allclose(part.best.chosen[row], alone.chosen, atol=1e-6)
            assert (alone.logits is None) == (part.best.logits is None)
            if alone.logits is not None and part.best.logits is not None:
                found = part.best.logits[row][listed]
                np.testing.assert_allclose(found, alone.logits, atol=1e-5)
            seen += 1
        seen += part.too_short
    assert seen == asked.number == 15


@pytest.mark.parametrize("run", NEXT_RUNS)
@pytest.mark.parametrize("include_seen", [False, True])
def test_a_list_is_what_its_user_is_told_alone(
    next_home: Path, run: str, include_seen: bool
) -> None:
    nodes = nodes_of(next_home, run)
    before_test = not include_seen and nodes.best.config.tests
    check_against_each_user(nodes, Wish(20, include_seen), before_test=before_test)


def test_so_it_is_with_private_heads_short_windows_and_targets_that_were_liked(
    small_data: Path, tmp_path: Path
) -> None:
    settings = {"num_server_rounds": 2, "evaluate_every": 2, "sampling_rate": 1.0}
    own = {"private_parameters": "head", "num_experts": 1, "user_network_dim": "off"}
    run_federation(small_data, tmp_path, nodes=2, name="head", **settings, **own)
    check_against_each_user(nodes_of(tmp_path, "head"), Wish(4))
    short = {"objective": "next", "window_length": 4, "holdout": 2}
    run_federation(small_data, tmp_path, nodes=2, name="short", **settings, **short)
    check_against_each_user(nodes_of(tmp_path, "short"), Wish(4), before_test=True)
    liked = {**short, "targets": "liked", "linear_items": 15}
    run_federation(small_data, tmp_path, nodes=2, name="liked", **settings, **liked)
    for before_test in (False, True):
        check_against_each_user(nodes_of(tmp_path, "liked"), Wish(4), before_test=before_test)


def test_memory_is_bounded_and_changes_nothing(
    next_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = nodes_of(next_home, "both")
    (whole, more) = AllUsers(nodes, Wish(7)).lists()
    monkeypatch.setattr(lists, "LISTED_AT_ONCE", 7 * 3)
    monkeypatch.setattr(lists, "SCORE_BYTES", 2 * 20 * lists.NEXT_BYTES)
    monkeypatch.setattr(best_items, "CANDIDATES", 5)
    parts = list(AllUsers(nodes, Wish(7)).lists())
    assert [len(part.users) for part in parts] == [3, 3, 2, 3, 3, 1]
    for name in ("items", "scores", "logits", "routes"):
        expected = np.concatenate([getattr(p.best, name) for p in (whole, more)])
        found = np.concatenate([getattr(part.best, name) for part in parts])
        np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1), st.integers(1, 6))
def test_the_largest_are_those_of_a_stable_sort(rows: list[list[int]], top: int) -> None:
    scores = torch.tensor(rows, dtype=torch.float64)
    scores[scores == 0] = -torch.inf  # no candidates
    places, values = best_items._largest(scores, top)
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(places, expected.indices[:, :top])
    assert torch.equal(values, expected.values[:, :top])


@pytest.mark.parametrize("suffix", READ)
def test_every_format_has_the_same_rows(next_home: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"lists{suffix.upper() if suffix == '.csv' else suffix}"
    assert to_file(next_home / "runs" / "both", out, "--top", "3", "--include-seen") == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.stat().st_mode & 0o077 == 0
    rows = READ[suffix](out)
    assert list(rows.columns) == ["user_id", "rank", "item_id", "score", "p_like"]
    assert len(rows) == 15 * 3
    nodes = nodes_of(next_home, "both")
    ids = load_item_ids(nodes.dataset_folder)
    for name, part in rows.groupby(rows["user_id"].astype(str)):
        alone = recommend(open_user(nodes, name), Wish(3, include_seen=True))
        assert part["rank"].tolist() == [1, 2, 3]
        assert part["item_id"].astype(str).tolist() == [ids[item] for item in alone.items]
        np.testing.assert_allclose(part["score"], alone.scores, atol=1e-5)
        np.testing.assert_allclose(part["p_like"], alone.probabilities, atol=1e-5)


@pytest.mark.parametrize("run", ["next", "mixed", "click"])
def test_where_one_thing_is_learned_there_is_no_second_column(
    next_home: Path, tmp_path: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lists.csv"
    assert to_file(next_home / "runs" / run, out, "--json", "--include-seen") == 0
    assert list(read(out).columns) == ["user_id", "rank", "item_id", "score"]
    said = json.loads(capsys.readouterr().out)
    assert (said["users"], said["rows"], said["too_short"], said["nothing_left"]) == (15, 150, 0, 0)
    words = {"next": "the user's next", "mixed": "the user's next, by ", "click": "likes an item"}
    assert words[run] in said["ordered_by"]


@pytest.mark.parametrize("run", ["alone", "linear", "liked"])
def test_hits_counted_from_the_file_are_the_runs_own(run: str, tmp_path: Path) -> None:
    """HR@10 and NDCG@10 of the held-out rows, by nothing but the data and the files."""
    data = tmp_path / "data"
    prepare("synthetic", out=data, options={"users": 80, "items": 60, "events_per_user": 14})
    changes = {"linear": {"linear_items": 50}, "liked": {"linear_items": 50, "targets": "liked"}}
    settings = {"objective": "next", "window_length": 8, "num_server_rounds": 4}
    run_federation(data, tmp_path, nodes=2, name=run, **settings, **changes.get(run, {}))
    found = {}
    for name, options in (("new", []), ("any", ["--include-seen"])):
        out = tmp_path / f"{name}.parquet"
        words = ["--before-test", "--top", "10", *options]
        assert to_file(tmp_path / "runs" / run, out, *words) == 0
        rows = read(out)
        found[name] = rows.set_index(["user_id", "item_id"])["rank"].to_dict()

    dataset, ids = load_dataset(data), load_item_ids(data)
    if run == "liked":
        dataset = ending_with_targets(dataset, holdout=1)
    gains: list[tuple[float, float]] = []
    for row in eligible_users(dataset, holdout=1):
        *history, answer = dataset.items[dataset.offsets[row] : dataset.offsets[row + 1]]
        # What was met before is ranked among all items, by the run and here.
        ranks = found["any" if answer in history else "new"]
        rank = ranks.get((dataset.user_ids[row], ids[answer]))
        gains.append((1.0, 1.0 / np.log2(1.0 + rank)) if rank else (0.0, 0.0))
    test = json.loads((tmp_path / "runs" / run / "summary.json").read_text())["test"]
    assert len(gains) == len({user for user, _ in found["new"]})
    assert 0 < test["hr10"] < 1
    assert np.mean(gains, axis=0) == pytest.approx([test["hr10"], test["ndcg10"]], abs=1e-9)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A home with a run on 6 users: one has met all four items, two are too short for a test."""
    histories = [[(i, 1) for i in row] for row in ([1, 2, 3, 4], [1, 2, 3], [2, 3, 1, 2])]
    histories += [[(i, 0) for i in row] for row in ([4], [4, 1], [1, 2, 4])]
    data = tmp_path / "data"
    data.mkdir()
    write_folder(prepared([chunk(histories)]), data, source={})
    settings = {"objective": "next", "num_server_rounds": 2, "sampling_rate": 1.0}
    run_federation(data, tmp_path, nodes=2, name="run", **settings)
    return tmp_path


def test_who_gets_no_list_is_counted(uneven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out, top = uneven / "runs" / "run", uneven / "lists.json", ["--top", "4"]
    assert to_file(run, out, *top) == 0
    said = capsys.readouterr().out
    assert "1 users have met all items that were asked for and have no list" in said
    assert "too short" not in said  # without the split nobody is
    assert "have no private parameters here" not in said  # those too short for a test train, too
    assert sorted(set(read(out)["user_id"])) == [f"user {n}" for n in range(1, 6)]
    assert len(read(out)[lambda rows: rows["user_id"] == "user 1"]) == 1  # one item is left

    assert to_file(run, out, "--before-test", *top) == 0
    assert "2 users are too short for the split and left out" in capsys.readouterr().out
    assert sorted(set(read(out)["user_id"])) == [f"user {n}" for n in (0, 1, 2, 5)]

    before = out.read_bytes()
    assert to_file(run, out, "--filter", "genres=blue", "--before-test", *top) == 2
    said = capsys.readouterr().err
    assert "no user has a list, nothing was written: 2 are too short for the split" in said
    assert out.read_bytes() == before

    assert main(["recommend", str(run), "--user", "user 0", *top]) == 2
    assert "has met all 4 items: there is nothing to recommend" in capsys.readouterr().err
    assert main(["recommend", str(run), "--history", "A, B, C, D", *top]) == 2
    assert "has met all 4 items: there is nothing to recommend" in capsys.readouterr().err
    assert main(["recommend", str(run), "--user", "user 0", "--filter", "genres=red", *top]) == 2
    assert "no item with genres=red is left" in capsys.readouterr().err


def test_only_items_asked_for_are_listed(uneven: Path) -> None:
    out = uneven / "lists.csv"
    words = ["--filter", "genres=red", "--include-seen", "--top", "4"]
    assert to_file(uneven / "runs" / "run", out, *words) == 0
    rows = read(out)
    assert set(rows["item_id"]) == {"a", "d"}
    assert rows["rank"].tolist() == [1, 2] * 6


def test_progress_ends_with_everybody(uneven: Path) -> None:
    asked, done = AllUsers(nodes_of(uneven, "run"), Wish(2), before_test=True), []
    list_files.write_lists(asked, uneven / "lists.csv", done.append)
    assert done == sorted(done)
    assert done[-1] == asked.number == 6


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", READ)
def test_a_failure_leaves_the_file_as_it_was(
    suffix: str, next_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "runs" / "next"
    shutil.copytree(next_home / "runs" / "next", copied)
    (model,) = (copied / "best").glob("model-*.safetensors")
    arrays = safetensors.numpy.load_file(model)
    arrays["next_head.item_bias.weight"][7] = np.nan
    safetensors.numpy.save_file(arrays, model)
    out = tmp_path / f"lists{suffix}"
    out.write_text("yesterday's")
    assert to_file(copied, out) == 2
    gc.collect()  # a writer that was not closed complains when it goes
    assert "score of an item is no finite number: its run has diverged" in capsys.readouterr().err
    assert out.read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "runs"]


ALL = ["--all-users", "--out", "x.csv"]
MISTAKES: list[tuple[list[str], str]] = [
    ([], "give one of --user, --history and --all-users, got none of them"),
    (["--user", "u", *ALL], "got --user and --all-users"),
    (["--user", "u", "--history", "a"], "got --user and --history"),
    (["--user", "u", "--out", "x.csv"], "--out does not go with --user"),
    (["--history", "a", "--out", "x.csv"], "--out does not go with --history"),
    (["--history", "a", "--before-test"], "--before-test does not go with --history"),
    (["--all-users"], "--all-users needs --out FILE"),
    ([*ALL, "--explain"], "--explain does not go with --all-users"),
    ([*ALL, "--top", "21"], "top must be between 1 and 20 (the number of items), got 21"),
    ([*ALL, "--top", "0"], "top must be between 1 and 20 (the number of items), got 0"),
    (["--history", "item-1", "--top", "21"], "top must be between 1 and 20"),
    ([*ALL, "--filter", "colour=red"], "items have no feature 'colour'"),
    (["--all-users", "--out", "x.txt"], "ends in .parquet, .csv, .json, got 'x.txt'"),
    (["--all-users", "--out", "."], "ends in .parquet, .csv, .json"),
    (["--history", "no such item"], "no item has 'no such item' as its id or in its title"),
    (["--history", ""], "the history is empty"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_mistakes_are_one_line_and_write_nothing(
    words: list[str],
    said: str,
    next_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", str(next_home / "runs" / "next"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(
    next_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists.csv").mkdir()
    assert to_file(next_home / "runs" / "next", tmp_path / "lists.csv") == 2
    assert "lists.csv is a folder; name a file in it" in capsys.readouterr().err


@pytest.mark.parametrize("run", NEXT_RUNS[:-1])  # the last one knows who is in its sums
def test_a_history_is_a_user_of_whom_nothing_else_is_known(
    small_data: Path, next_home: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as a user's history, all liked, with no parameters or features of their own."""
    nodes, dataset = nodes_of(next_home, run), load_dataset(small_data)
    user = open_user(nodes, dataset.user_ids[2])
    few = user.items[-5:]
    new = user.node.initial_private
    alike = replace(user, items=few, labels=np.ones(5, dtype=np.int64), private=new)
    expected = recommend(alike, Wish(4))
    ids = load_item_ids(small_data)
    words = ["--history", f"id:{ids[few[0]]}", "--history", ", ".join(ids[i] for i in few[1:])]
    arguments = ["recommend", str(next_home / "runs" / run), *words, "--top", "4"]
    assert main([*arguments, "--explain", "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [item["code"] for item in said["items"]] == expected.items.tolist()
    assert [item["score"] for item in said["items"]] == pytest.approx(expected.scores.tolist())
    assert said["is_known"] is False
    assert said["latest"] == [ids[i] for i in few]  # this catalogue has no titles
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "somebody who is in no data, 5 items of history, all liked: the shared model" in told
    assert "history: " + "; ".join(ids[i] for i in few) in told


def test_the_features_of_a_history_are_unknown(tmp_path: Path) -> None:
    """A click depends on age, here; a history has code 0."""
    data = tmp_path / "data"
    data.mkdir()
    histories = [[(1, 1), (2, 0), (3, 1)], [(2, 0), (3, 1), (1, 0)], [(3, 1), (2, 1), (1, 0)]] * 2
    write_folder(prepared([chunk(histories)]), data, source={})
    run_federation(data, tmp_path, nodes=1, name="run", num_server_rounds=2, initial_scale=1.0)
    nodes = nodes_of(tmp_path, "run")
    user = open_user(nodes, "user 1")
    assert user.user_codes["age"].tolist() == [1]
    new = user.node.initial_private
    alike = replace(user, items=np.array([1, 2]), labels=np.array([1, 1]), private=new)
    unknown = replace(alike, user_codes={"age": torch.tensor([0])})
    out = recommend(open_history(nodes, np.array([1, 2])), Wish(2)).scores
    np.testing.assert_allclose(out, recommend(unknown, Wish(2)).scores, atol=1e-6)
    assert np.abs(out - recommend(alike, Wish(2)).scores).max() > 1e-4

"""Lists of runs that learned the next item: their order, and hits that anyone can count."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.windows import eligible_users
from mrff.linear import mix_of
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import leave_one_out, next_scores, ordered_by, recommend
from mrff.ops.trained_run import find_run, load_best
from mrff.ops.user_model import UserModel, open_user
from mrff.ops.wish import Wish


def user_of(home: Path, run: str, data: Path, row: int, *, before_test: bool = False) -> UserModel:
    nodes = NodesAtHand(load_best(find_run(str(home / "runs" / run))))
    name = load_dataset(data).user_ids[row]
    return open_user(nodes, name, before_test=before_test)


@pytest.mark.parametrize("run", ["next", "both", "mixed"])
def test_hits_counted_from_outside_are_those_of_the_run(
    small_data: Path, next_home: Path, run: str
) -> None:
    """``--before-test`` lists, against the held-out items: HR@5 as the summary has it."""
    dataset = load_dataset(small_data)
    hits = []
    for row in eligible_users(dataset, holdout=1):
        user = user_of(next_home, run, small_data, row, before_test=True)
        held_out = dataset.items[dataset.offsets[row + 1] - 1]
        again = bool(held_out in user.items)  # such an answer is ranked among all items
        hits.append(held_out in recommend(user, Wish(5, include_seen=again)).items)
    summary = json.loads((next_home / "runs" / run / "summary.json").read_text())
    assert np.mean(hits) == pytest.approx(summary["test"]["hr5"], abs=1e-9)


def test_the_order_is_that_of_the_next_item_with_the_click_beside(
    small_data: Path, next_home: Path
) -> None:
    user = user_of(next_home, "both", small_data, 3)
    found = recommend(user, Wish(20, include_seen=True))
    items, labels = user.recent()
    scores = next_scores(user, user.batch(items[None], labels[None]))[0]
    assert found.items.tolist() == (np.argsort(-scores, kind="stable") + 1).tolist()
    assert found.probabilities is not None
    assert "next" in ordered_by(user)
    alone = recommend(user_of(next_home, "next", small_data, 3), Wish(5))
    assert alone.logits is None
    assert not set(alone.items) & set(user.items)


def test_a_list_by_one_linear_model_alone_is_its_own(small_data: Path, next_home: Path) -> None:
    user = user_of(next_home, "mixed", small_data, 2)
    assert user.mixture is not None
    popular = replace(user.mixture, mixes=np.array([mix_of(popularity=1.0)]))
    found = recommend(replace(user, mixture=popular), Wish(20, include_seen=True))
    counts = np.zeros(20)
    counts[user.mixture.part.columns] = user.mixture.part.counts
    assert found.items.tolist() == (np.argsort(-counts, kind="stable") + 1).tolist()


def test_only_items_with_a_value(small_data: Path, next_home: Path) -> None:
    user = user_of(next_home, "next", small_data, 0)
    dataset = user.node.dataset
    genre = next(f for f in dataset.schema.item_features if f.name == "genre")
    named = replace(genre, values=tuple(f"kind {n}" for n in range(1, genre.size)))
    schema = replace(dataset.schema, item_features=(named,))
    user = replace(user, node=replace(user.node, dataset=replace(dataset, schema=schema)))
    found = recommend(user, Wish(20, include_seen=True, only={"genre": "kind 2"}))
    assert sorted(found.items) == np.flatnonzero(dataset.item_features["genre"] == 2).tolist()
    with pytest.raises(DataError, match="genre has no value 'kid 2'; near it: kind 2"):
        recommend(user, Wish(5, only={"genre": "kid 2"}))
    with pytest.raises(DataError, match="no feature 'colour'; known"):
        recommend(user, Wish(5, only={"colour": "x"}))


def test_the_explanation_is_of_the_score_that_orders(small_data: Path, next_home: Path) -> None:
    user = user_of(next_home, "next", small_data, 1)
    items, labels = user.recent()
    candidates = np.array([1, 5])
    parts = leave_one_out(user, candidates)
    kept = np.arange(len(items)) != 2
    with torch.no_grad():
        whole, without = (
            next_scores(user, user.batch(i[None], y[None]))[0][candidates - 1]
            for i, y in ((items, labels), (items[kept], labels[kept]))
        )
    np.testing.assert_allclose(parts[2], whole - without, atol=1e-6)


def test_the_command_says_what_the_order_means(
    small_data: Path, next_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = load_dataset(small_data).user_ids[0]
    for run, words in (("next", "the user's next"), ("mixed", "the user's next, by")):
        arguments = ["recommend", str(next_home / "runs" / run), "--user", name, "--top", "3"]
        assert main(arguments) == 0
        assert words in capsys.readouterr().out
    assert main([*arguments, "--filter", "colour"]) != 0

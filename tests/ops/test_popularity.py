"""The floor of data without labels, by hand and beside the ranks of a real run."""

from __future__ import annotations

import json
from math import log2
from pathlib import Path

import pytest

from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.prepare import prepare
from mrff.ops import popularity
from mrff.ops.popularity import popularity_floor
from tests.support.events import plays
from tests.support.federation import run_federation
from tests.support.small_folders import write


def history(*items: int) -> list[tuple[int, int]]:
    return [(item, 1) for item in items]


def test_ranks_by_hand(tmp_path: Path) -> None:
    """Both were trained on items 1 and 2. One met 3 since: 4 alone is left. The other met 1 again:
    3 and 4, neither met by anybody in training, have the first two places with equal chance."""
    write(tmp_path, [history(1, 2, 3, 4), history(1, 2, 1, 4)])
    found = popularity_floor(load_dataset(tmp_path), holdout=1, part="test")
    assert (found.users, found.targets) == (2, 2)
    assert found.candidates == pytest.approx((1 + 2) / 2)
    assert found.hr10 == 1.0
    assert found.ndcg10 == pytest.approx((1 + (1 + 1 / log2(3)) / 2) / 2)
    assert found.mrr10 == pytest.approx((1 + (1 + 1 / 2) / 2) / 2)


@pytest.mark.parametrize("at_once", [1, 30, 10_000])
def test_users_may_be_ranked_a_few_at_a_time(
    small_data: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(small_data)
    whole = popularity_floor(dataset, holdout=2, part="valid")
    monkeypatch.setattr(popularity, "SCORES_AT_ONCE", at_once)
    assert popularity_floor(dataset, holdout=2, part="valid") == whole
    assert whole.targets == 30


def test_it_is_the_popularity_that_a_run_shows(tmp_path: Path) -> None:
    prepare("csv", source=plays(tmp_path, users=20, songs=12), out=tmp_path / "d")
    run_federation(tmp_path / "d", tmp_path, nodes=3, name="run", linear_items=12)
    test = json.loads((tmp_path / "runs/run/summary.json").read_text())["test_parts"]["popularity"]
    found = popularity_floor(load_dataset(tmp_path / "d"), holdout=1, part="test")
    assert found.hr10 == pytest.approx(test["hr10"])
    assert found.ndcg10 == pytest.approx(test["ndcg10"])


def test_users_too_short_for_the_split_are_named(tmp_path: Path) -> None:
    write(tmp_path, [history(1, 2)])
    with pytest.raises(DataError, match="no user has the 3 interactions"):
        popularity_floor(load_dataset(tmp_path), holdout=1, part="test")

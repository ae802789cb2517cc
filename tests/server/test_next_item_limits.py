"""What a run that learns the next item makes of odd data and wrong settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError
from mrff.data.prepare import prepare
from tests.support.federation import run_federation


def run(data: Path, home: Path, name: str = "run", **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"objective": "next", "num_server_rounds": 1, "evaluate_every": 1}
    run_federation(data, home, nodes=1, name=name, **{**settings, **changes})
    test: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())["test"]
    return test


def synthetic(folder: Path, **options: int) -> Path:
    prepare("synthetic", out=folder, options={"users": 4, "events_per_user": 9, **options})
    return folder


@pytest.mark.parametrize("drawn", [{}, {"full_softmax_items": 0, "drawn_items": 3}])
def test_a_catalogue_of_one_item_leaves_nothing_to_get_wrong(
    tmp_path: Path, drawn: dict[str, int]
) -> None:
    test = run(synthetic(tmp_path / "one", items=1), tmp_path, **drawn)
    assert test["hr1"] == test["candidates"] == 1.0


def test_more_draws_than_items_are_draws_with_replacement(tmp_path: Path) -> None:
    data = synthetic(tmp_path / "few", items=5)
    test = run(data, tmp_path, full_softmax_items=0, drawn_items=50)
    assert np.isfinite(test["ndcg10"])


def test_a_catalogue_of_a_million_items_is_ranked_whole(tmp_path: Path) -> None:
    data = synthetic(tmp_path / "many", items=1_000_000)
    test = run(data, tmp_path, feature_dim=8)
    assert 999_000 < test["candidates"] <= 1_000_000
    assert 0.0 <= test["hr50"] <= 1.0


def test_a_user_who_has_met_every_item_is_ranked_and_counts(tmp_path: Path) -> None:
    test = run(synthetic(tmp_path / "all", items=2, events_per_user=30), tmp_path)
    assert test["candidates"] == 2.0  # what comes again is ranked among all
    assert test["hr5"] == 1.0


def test_a_run_is_not_resumed_with_another_objective(small_data: Path, tmp_path: Path) -> None:
    run(small_data, tmp_path, "first")
    with pytest.raises(ConfigError, match=r"training\.objective"):
        run(small_data, tmp_path, "", resume="first", objective="both", num_server_rounds=2)

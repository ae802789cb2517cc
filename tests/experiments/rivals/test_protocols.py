"""Rivals by their papers' protocols: rounds in one process are those of Flower; what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrff.config import ConfigError, RunConfig, full_names
from mrff.config.methods import overrides_of
from mrff.data.dataset import load_dataset
from mrff.experiments.rivals.rounds import LocalRounds
from mrff.experiments.rivals.sampled import Candidates
from tests.support.federation import run_federation, shared_arrays
from tests.support.small_data import small_config, small_dataset
from tests.support.small_folders import write

SETTINGS = {"sampling-rate": 0.6, "feature-dim": 4, "local-learning-rate": 40.0}


@pytest.mark.parametrize("method", ["fedmf", "pfedrec"])
def test_rounds_in_one_process_are_those_of_flower(
    small_data: Path, tmp_path: Path, method: str
) -> None:
    values = {**overrides_of(method), **full_names(SETTINGS)}
    config = RunConfig.from_flat({**values, "data.window-length": 16})
    rounds = LocalRounds(load_dataset(small_data), config)
    for _ in range(3):
        rounds.train()
    changes = {key.rpartition(".")[2].replace("-", "_"): v for key, v in values.items()}
    run_federation(small_data, tmp_path, nodes=2, name="flower", **changes)
    expected = shared_arrays(tmp_path, "flower")["item_table.weight"]
    np.testing.assert_allclose(rounds.state.public["item_table.weight"], expected, atol=1e-5)


@pytest.fixture
def with_short_users(tmp_path: Path) -> Path:
    """Five users; the second and the fourth are too short for a holdout of 1."""
    long = [(1, 1), (2, 0), (3, 1), (4, 1), (1, 0)]
    write(tmp_path / "data", [long, [(3, 1), (4, 0)], long[::-1], [(2, 1)], long[1:]])
    return tmp_path / "data"


@pytest.mark.parametrize("method", ["fedmf", "pfedrec"])
def test_short_users_train_here_as_they_do_in_flower(
    with_short_users: Path, tmp_path: Path, method: str
) -> None:
    values = {**overrides_of(method), **full_names({**SETTINGS, "sampling-rate": 1.0})}
    config = RunConfig.from_flat({**values, "data.window-length": 16})
    rounds = LocalRounds(load_dataset(with_short_users), config)
    assert rounds.users.tolist() == [0, 2, 4]  # who is tested
    assert sorted(rounds.everybody.users) == [0, 1, 2, 3, 4]
    for _ in range(3):
        rounds.train()
    changes = {key.rpartition(".")[2].replace("-", "_"): v for key, v in values.items()}
    run_federation(with_short_users, tmp_path, nodes=2, name="flower", **changes)
    expected = shared_arrays(tmp_path, "flower")["item_table.weight"]
    np.testing.assert_allclose(rounds.state.public["item_table.weight"], expected, atol=1e-5)
    rows = np.concatenate([rows for rows, _ in rounds.scores()])
    assert sorted(rows) == [0, 1, 2]


def test_only_what_factorises_is_run_here() -> None:
    with pytest.raises(ConfigError, match=r"choose training\.algorithm=fedmf or pfedrec"):
        LocalRounds(small_dataset(), small_config(objective="next"))


def test_candidates_are_the_answer_and_99_that_nobody_met() -> None:
    dataset = small_dataset()
    dataset = replace(dataset, schema=replace(dataset.schema, num_items=230))
    users = np.arange(dataset.num_users)
    items = Candidates.drawn(dataset, users, seed=1).items
    for user in users:
        met = dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]]
        assert items[user, :, 0].tolist() == met[-2:].tolist()
        others = items[user, :, 1:].ravel()
        assert len(np.unique(others)) == 198
        assert not np.isin(others, met).any()
    again, other = (Candidates.drawn(dataset, users, seed=seed).items for seed in (1, 2))
    assert (again == items).all()
    assert (other != items).any()


def test_measures_by_hand() -> None:
    """Of 100 candidates the answer is third, NDCG 1 / log2(4); of equals it is in the middle."""
    items = np.tile(np.arange(1, 101), (2, 2, 1))
    scores = torch.zeros(2, 100)
    scores[0, 1:3], scores[0, 3:] = 2.0, -1.0
    found = Candidates(items).measured([(np.array([0]), scores[:1]), (np.array([1]), scores[1:])])
    assert found["test"] == found["valid"] == (0.5, pytest.approx(0.25))


def test_a_small_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="the papers' protocol needs 198; use a larger catalogue"):
        Candidates.drawn(small_dataset(), np.arange(4), seed=0)

"""Linear models of a whole run: exact, whatever the layout; refused where they would tell."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from client_app.learners.cohort import CohortLearner
from client_app.learners.ranking import Ranking, history_of, ranks_of
from client_app.learners.serial import SerialLearner
from mrff.config import ConfigError
from mrff.data.dataset import load_dataset
from mrff.data.windows import eligible_users
from mrff.linear import LINEAR, LinearPart, Mixture, mix_of, sequences_of
from mrff.sums import CohortSums
from mrff.wire.aggregation import RoundFailedError
from strategies.linear_phase import TESTED, chosen_mixes, most_met
from tests.support.federation import run_federation
from tests.support.local_grid import LocalGrid
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import EVERYBODY, SIZES, cohort_of, model_of, network_of


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run(data: Path, home: Path, name: str, *, nodes: int, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"objective": "next", "linear_items": 15, **changes}
    run_federation(data, home, nodes=nodes, name=name, **settings)
    summary: dict[str, Any] = json.loads((home / "runs" / name / "summary.json").read_text())
    return summary


def test_three_silos_get_the_pooled_solution(small_data: Path, tmp_path: Path) -> None:
    summary = run(small_data, tmp_path, "silos", nodes=3)
    found = safetensors.numpy.load_file(tmp_path / "runs/silos/best/linear.safetensors")
    dataset = load_dataset(small_data)
    users = eligible_users(dataset, holdout=1)
    ends = dataset.offsets[users + 1] - 2
    items, offsets = history_of(dataset, users, ends)
    chosen = most_met(np.bincount(items, minlength=21)[1:], 15)
    assert found["items"].astype(int).tolist() == chosen.tolist()
    sequences = sequences_of(chosen, items, offsets)
    all_sums = {n: v for model in LINEAR.values() for n, v in model.sums(sequences).items()}
    for name, model in LINEAR.items():
        pooled = model.solve(all_sums, len(chosen))
        np.testing.assert_allclose(found[name], pooled, atol=1e-6)
    assert summary["test_parts"].keys() == set(TESTED)
    assert summary["test"]["hr10"] == pytest.approx(summary["test_parts"]["mixed"]["hr10"])
    alone = run(small_data, tmp_path, "alone", nodes=3, linear_items="off")
    assert alone["test"]["ndcg10"] == pytest.approx(summary["test_parts"]["network"]["ndcg10"])
    one = run(small_data, tmp_path, "one", nodes=1)
    assert one["test"] == pytest.approx(summary["test"])


def test_items_never_met_are_left_out_and_equal_counts_go_by_code() -> None:
    assert most_met(np.array([0, 3, 5, 3, 1]), 3).tolist() == [2, 3, 4]
    assert most_met(np.array([0, 3, 0]), 3).tolist() == [2]


def test_the_mix_is_the_best_of_validation_and_the_network_wins_ties() -> None:
    part = LinearPart(
        np.array([1]), np.ones(1, np.float32), {n: np.zeros((1, 1), np.float32) for n in LINEAR}
    )
    half = {"network": 0.5, "ease": 0.5}
    named: list[dict[str, float]] = [{"network": 1.0}, half, {"ease": 1.0}, {"slit": 1.0}]
    tried = Mixture(part, np.array([mix_of(**weights) for weights in named]))

    def sums(ndcg: list[float]) -> CohortSums:
        values = np.zeros((4, 5))
        values[:, 2] = ndcg
        return CohortSums({}, {"ndcg_sums": values, "ranked": np.array(10)})

    chosen = chosen_mixes(tried, sums([1.0, 4.0, 2.0, 3.0])).mixes
    assert chosen[:3].tolist() == tried.mixes[[1, 0, 3]].tolist()
    assert len(chosen) == len(TESTED)
    level = chosen_mixes(tried, sums([4.0, 4.0, 2.0, 1.0])).mixes
    assert level[0].tolist() == list(mix_of(network=1.0))


def test_a_mix_of_one_scorer_ranks_as_it_does(double_precision: None) -> None:
    dataset, users = small_dataset((9, 7, 14)), np.arange(3)
    random = np.random.default_rng(0)
    weights = {n: random.normal(size=(12, 12)).astype(np.float32) for n in LINEAR}
    part = LinearPart(np.arange(1, 13), np.arange(12, dtype=np.float32), weights)
    scores = torch.randn(3, 1, 12, generator=torch.Generator().manual_seed(0))
    mixture = Mixture(
        part, np.array([mix_of(network=1.0), mix_of(ease=1.0), mix_of(popularity=1.0)])
    )
    found = ranks_of(scores, dataset, users, "test", Ranking(mixture))
    plain = ranks_of(scores, dataset, users, "test")
    np.testing.assert_array_equal(found.better[..., :1], plain.better)
    sequences = part.sequences(dataset.items, dataset.offsets)
    ease = part.scores(sequences, users, dataset.offsets[1:] - 1)["ease"]
    alone = ranks_of(torch.from_numpy(ease)[:, None].double(), dataset, users, "test")
    np.testing.assert_array_equal(found.better[..., 1:2], alone.better)
    target = dataset.items[dataset.offsets[1:] - 1]  # item i was met i - 1 times
    assert (found.better[:, 0, 2] <= 12 - target).all()


@pytest.mark.parametrize("part", ["valid", "test"])
def test_cohort_and_serial_mix_alike(part: str, double_precision: None) -> None:
    config = small_config(objective="next", holdout=2)
    dataset = small_dataset(tuple(size + 4 for size in SIZES))
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    random = np.random.default_rng(0)
    weights = {n: random.normal(size=(5, 5)).astype(np.float32) for n in LINEAR}
    part_of = LinearPart(np.array([1, 3, 4, 8, 12]), np.ones(5, np.float32), weights)
    mixture = Mixture(part_of, np.array([mix_of(network=0.5, ease=0.3, slit=0.2)]))
    model = model_of(network)
    model = model.__class__(1, model.public, model.group, None, mixture)
    one, other = (
        learner(network, config).score(model, cohort, part).ranks  # type: ignore[arg-type]
        for learner in (SerialLearner, CohortLearner)
    )
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.better, other.better)


def test_private_modes_and_clicks_have_no_linear_models(small_data: Path, tmp_path: Path) -> None:
    private = {"mode": "central-user", "noise_multiplier": 1.0, "clipping_norm": 0.1}
    with pytest.raises(ConfigError, match=r"linear-items=15 cannot go with privacy\.mode"):
        run(small_data, tmp_path, "private", nodes=1, **private)
    with pytest.raises(ConfigError, match="linear models rank the next item"):
        run(small_data, tmp_path, "click", nodes=1, objective="click")


def test_a_node_with_a_budget_answers_no_query_about_items(
    small_data: Path, tmp_path: Path
) -> None:
    """A server that trains in mode none must not get a promised user's items by a query."""

    class OwnBudget(LocalGrid):
        """Nodes forget their budget for training, which they would refuse, and have it again."""

        def push_messages(self, messages: Any) -> Any:
            messages = list(messages)
            asks = messages[0].metadata.message_type.startswith("query")
            for context in self._contexts.values():
                context.node_config.pop("epsilon-budget", None)
                if asks:
                    context.node_config["epsilon-budget"] = 3.0
            return super().push_messages(messages)

    with pytest.raises(RoundFailedError, match="epsilon-budget answers no query about items"):
        run(small_data, tmp_path, "asked", nodes=2, grid_type=OwnBudget)

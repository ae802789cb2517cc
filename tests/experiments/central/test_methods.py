"""The methods that see everybody's data at once: pooled training, rates, trees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from client_app.learners import Cohort
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import METHODS, overrides_of
from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.floors import floors
from mrff.data.targets import ending_with_targets
from mrff.data.windows import eligible_users
from mrff.experiments.central import Measures, Predicted, Ranked
from mrff.experiments.central.methods import FLOORS, run_central
from mrff.experiments.central.pooled import pooled_banks, train_pooled
from mrff.experiments.central.rivals import RIVALS
from mrff.metrics.ranking import LENGTHS, expected_gains
from mrff_model.building import build_network, tensors_of
from strategies.pooling import pool_experts
from tests.support.scoring import scored_alone
from tests.support.small_data import small_config, small_dataset, small_network

CENTRAL = [name for name, method in METHODS.items() if not method.is_federated]
RANKING = [name for name in CENTRAL if METHODS[name].overrides.get("training.objective") == "next"]
CLICKS = [name for name in CENTRAL if name not in RANKING]


def config_of(method: str, data: Path, **more: Any) -> RunConfig:
    base: dict[str, Any] = {"data-dir": str(data), "feature-dim": 4, "window-length": 16}
    base |= {"num-server-rounds": 10, "sampling-rate": 0.4, "holdout": 2, **more}
    return RunConfig.from_flat(overrides_of(method, base))


def test_every_method_that_is_not_federated_has_a_program() -> None:
    assert {*FLOORS, *RIVALS} == set(CENTRAL)


def test_a_floor_does_without_pytorch() -> None:
    """A comparison runs each in a process of its own, which takes seconds to import it."""
    script = (
        "import sys, mrff.experiments.comparison.central_cell\n"
        "from mrff.experiments.central.methods import program_of\n"
        "program_of('user-item-rate')\n"
        "assert not {'torch', 'flwr'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("method", CLICKS)
def test_every_click_method_predicts_the_test_part(small_data: Path, method: str) -> None:
    result = run_central(method, config_of(method, small_data))
    dataset = load_dataset(small_data)
    scores = result.scores
    assert scores.logits is not None
    assert scores.ranks is None
    assert scores.labels.shape == scores.logits.shape == (15, 2)
    assert scores.user_keys.tolist() == dataset.user_keys.tolist()
    for user in range(15):
        end = dataset.offsets[user + 1]
        assert scores.labels[user].tolist() == dataset.labels[end - 2 : end].tolist()
    truth, logits = scores.labels.ravel(), scores.logits.ravel()
    assert result.measured["auc"] == pytest.approx(roc_auc_score(truth, logits))
    assert result.measured["log_loss"] == pytest.approx(log_loss(truth, 1 / (1 + np.exp(-logits))))


@pytest.mark.parametrize("method", RANKING)
def test_every_ranking_method_ranks_the_test_part(small_data: Path, method: str) -> None:
    """Among all items that a user had not met, or all where the answer was met before."""
    steps: list[int] = []
    config = config_of(method, small_data)
    result = run_central(method, config, lambda step, measures: steps.append(step))
    dataset = load_dataset(small_data)
    scores, ranks = result.scores, result.scores.ranks
    assert scores.logits is None
    assert scores.user_keys.tolist() == dataset.user_keys.tolist()
    assert ranks is not None
    assert ranks.better.shape == (15, 2, 1)
    assert result.best_round in steps
    for user, place in np.ndindex(15, 2):
        row = dataset.offsets[user + 1] - 2 + place
        met = set(dataset.items[dataset.offsets[user] : row].tolist())
        again = dataset.items[row] in met
        among = dataset.schema.num_items - (0 if again else len(met))
        assert ranks.candidates[user, place] == among
        assert ranks.better[user, place, 0] < among
        assert scores.labels[user, place] == dataset.labels[row]
    hits = expected_gains(ranks, "hr")[:, :, 0, LENGTHS.index(10)]
    assert result.measured["hr10"] == pytest.approx(hits.mean())
    assert "auc" not in result.measured
    if not method.endswith("-pooled"):
        assert steps == list(range(1, result.tried + 1))


def test_impressions_are_split_at_what_was_liked(small_data: Path) -> None:
    config = config_of("popularity", small_data, targets="liked")
    scores = run_central("popularity", config).scores
    dataset = ending_with_targets(load_dataset(small_data), holdout=2)
    long = eligible_users(dataset, holdout=2)
    assert (dataset.labels[dataset.offsets[long + 1] - 4] == 1).all()  # of four likes at least
    assert scores.user_keys.tolist() == dataset.user_keys[long].tolist()
    assert (scores.labels == 1).all()
    assert scores.ranks is not None
    assert scores.ranks.counts.all()


def test_rates_are_the_floors(small_data: Path) -> None:
    expected = floors(load_dataset(small_data), holdout=2, part="test")
    for method, floor in (("user-rate", expected.user), ("user-item-rate", expected.user_item)):
        result = run_central(method, config_of(method, small_data))
        assert result.measured == {"auc": floor.auc, "log_loss": floor.log_loss}


def test_federated_methods_are_refused(small_data: Path) -> None:
    with pytest.raises(ConfigError, match="method fedavg is federated"):
        run_central("fedavg", config_of("fedavg", small_data))
    with pytest.raises(ConfigError, match="did you mean pooled"):
        run_central("poold", config_of("mrff", small_data))


def test_a_split_that_nobody_is_long_enough_for(small_data: Path) -> None:
    for method in CENTRAL:
        with pytest.raises(DataError, match="needs; use a smaller holdout"):
            run_central(method, config_of(method, small_data, holdout=50))


def test_pooled_training_learns_and_leaves_the_best_model(small_data: Path) -> None:
    dataset = load_dataset(small_data)
    config = config_of("pooled", small_data, **{"num-server-rounds": 40, "holdout": 1})
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    begin = {name: value.detach().clone() for name, value in network.named_parameters()}
    seen: list[tuple[int, float]] = []
    result = train_pooled(network, dataset, config, lambda n, m: seen.append((n, m["auc"])))
    assert [number for number, _ in seen] == list(range(1, 17))
    best = max(auc for _, auc in seen)
    assert result.best == next(number for number, auc in seen if auc == best)
    moved = [n for n, v in network.named_parameters() if not np.array_equal(v.detach(), begin[n])]
    assert "layers.0.attention.query.weight" in moved
    assert "user_embedding" not in moved  # users have rows of their own, in a table


def test_pooled_training_stops_when_validation_does(small_data: Path) -> None:
    more = {"num-server-rounds": 200, "early-stop-patience": 2, "server-learning-rate": 0.05}
    config = config_of("pooled", small_data, **more)
    dataset = load_dataset(small_data)
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    seen: list[int] = []
    result = train_pooled(network, dataset, config, lambda n, measures: seen.append(n))
    assert len(seen) == result.best + 2 < 80


def test_pooled_scores_are_those_of_the_network_with_each_users_row() -> None:
    """Without private learning every row is a new user's, as the network itself holds it."""
    dataset = small_dataset((9, 14, 6, 9, 12))
    config = small_config(private_learning_rate=0.0, num_server_rounds=3)
    network = small_network(config, dataset)
    result = train_pooled(network, dataset, config)
    assert isinstance(result, Predicted)
    rows = {n: v.expand(5, *v.shape[1:]).clone() for n, v in tensors_of(network, "private").items()}
    unknown = np.full((len(result.users), len(network.layers)), -1)
    cohort = Cohort(dataset, result.users, rows, unknown)
    alone = scored_alone(network, config, cohort)
    np.testing.assert_allclose(result.logits, alone.logits, atol=1e-5)


def test_pooled_training_pools_experts_as_the_server_does() -> None:
    random = np.random.default_rng(0)
    share = np.array([0.5, 0.5 - 1 / 8, 1 / 8, 0.0])
    summed = random.normal(size=(4, 3, 2)) * (share > 0)[:, None, None]
    names = [f"layers.0.experts.{expert}.up_weight" for expert in range(4)]
    means = {n: summed[k] / share[k] for k, n in enumerate(names) if share[k]}
    expected = pool_experts(means, share[None], 0.3)
    bank = "layers.0.experts.up_weight"
    banks = pooled_banks({bank: torch.from_numpy(summed)}, torch.from_numpy(share[None]), 0.3)
    for expert, name in enumerate(names):
        np.testing.assert_allclose(banks[bank][expert], expected[name], atol=1e-12)


@pytest.mark.parametrize("pooling", [0.0, 1.0])
def test_experts_of_pooled_training_part_unless_they_follow_everybody(pooling: float) -> None:
    dataset = small_dataset((9, 14, 6, 9, 12))
    config = small_config(expert_pooling=pooling, num_server_rounds=4)
    network = small_network(config, dataset)
    train_pooled(network, dataset, config)
    for bank in tensors_of(network, "group").values():
        assert bool((bank == bank[:1]).all()) is (pooling == 1.0)


@pytest.mark.parametrize(
    "more", [{"private_parameters": "head"}, {"clusters": 2, "num_experts": 1}]
)
def test_pooled_training_knows_no_federated_settings(more: dict[str, Any]) -> None:
    dataset, config = small_dataset(), small_config(**more)
    with pytest.raises(ConfigError, match="pooled training knows clusters=off"):
        train_pooled(small_network(config, dataset), dataset, config)


@pytest.mark.parametrize("objective", ["next", "both"])
def test_pooled_training_of_the_next_item_is_chosen_by_its_metric(
    small_data: Path, objective: str
) -> None:
    """Validation comes as often as that of a federated run: 5 rounds of 40 % are 2 passes."""
    config = config_of("pooled", small_data, **{"num-server-rounds": 12, "objective": objective})
    dataset = load_dataset(small_data)
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    seen: dict[int, Measures] = {}
    result = train_pooled(network, dataset, config, seen.__setitem__)
    assert list(seen) == [2, 4, 5]
    by = {"next": "ndcg10", "both": "auc_ndcg10"}[objective]
    assert result.best == max(seen, key=lambda number: seen[number][by])
    assert isinstance(result, Ranked if objective == "next" else Predicted)
    assert result.ranks is not None
    assert result.ranks.better.shape == (15, 2, 1)
    assert ("auc" in seen[2]) is (objective == "both")

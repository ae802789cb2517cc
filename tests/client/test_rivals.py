"""The rivals of MRFF on the client: FedProx's pull, private heads and bodies, clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client_app import cohort_training
from client_app.clusters import ClusterTrainer, best_copies, copy_of, part_of, score_clusters
from client_app.cohort_evaluation import score_cohort
from client_app.cohort_training import train_cohort
from client_app.evaluation import score_serially
from client_app.serial_training import train_serially
from client_app.training import Start, Trained, trainer_named
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff_model.building import initial_shared, load_shared, tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import cluster_name
from tests.client.test_cohort_training import (
    SIZES,
    assert_same,
    cohort_of,
    double_precision_on_one_thread,  # noqa: F401, a fixture
    network_of,
    rounds_agree,
    start_of,
)
from tests.support.small_data import small_config, small_dataset

EVERYBODY = np.arange(len(SIZES))
ONE_MODEL: dict[str, Any] = {
    "num_experts": 1,
    "user_network_dim": 0,
    "user_embedding_dim": 0,
    "user_bias": False,
}


def train(name: str, config: RunConfig, users: np.ndarray = EVERYBODY, **parts: Any) -> Trained:
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    start, cohort = parts.get("start") or start_of(network), cohort_of(dataset, network, users)
    trainer = trainer_named(name, clusters=config.network.clusters)
    return trainer(network, start, cohort, data=config.data, training=config.training)


# FedProx


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_cohort_equals_serial_with_a_proximal_term(optimizer: str) -> None:
    rate = 0.3 if optimizer == "sgd" else 0.03
    rounds_agree(
        2, proximal_weight=0.7, local_steps=3, local_optimizer=optimizer, dropout=0.2,
        local_learning_rate=rate,
    )  # fmt: skip


@pytest.mark.parametrize("trainer", ["serial", "cohort"])
def test_the_proximal_term_is_the_written_out_one(trainer: str) -> None:
    """Of two SGD steps the second gains mu (w_1 - w_0), and w_1 - w_0 is one step's update."""
    rate, mu = 0.3, 0.5
    settings: dict[str, Any] = {"local_learning_rate": rate, "local_optimizer": "sgd"}
    one = train(trainer, small_config(**settings, local_steps=1))
    plain = train(trainer, small_config(**settings, local_steps=2))
    pulled = train(trainer, small_config(**settings, local_steps=2, proximal_weight=mu))
    for name, total in pulled.public.items():
        expected = plain.public[name] - rate * mu * one.public[name]
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5)
    for name, rows in pulled.private.items():  # they feel no pull
        torch.testing.assert_close(rows, plain.private[name])


@pytest.mark.parametrize("trainer", ["serial", "cohort"])
def test_without_weight_or_with_one_step_fedprox_is_fedavg(trainer: str) -> None:
    for settings in ({"local_steps": 3}, {"local_steps": 1, "proximal_weight": 9.0}):
        plain = train(trainer, small_config(**{**settings, "proximal_weight": 0.0}))  # type: ignore[arg-type]
        assert_same(train(trainer, small_config(**settings)), plain)  # type: ignore[arg-type]
    weak, strong = (
        train(trainer, small_config(local_steps=5, proximal_weight=mu)) for mu in (0.0, 2.0)
    )
    assert distance(strong) < distance(weak)


def distance(trained: Trained) -> float:
    return sum(float(value.square().sum()) for value in trained.public.values())


# Private heads, private everything


@pytest.mark.parametrize("kept", ["head", "all"])
@pytest.mark.parametrize("settings", [{}, {"local_steps": 3, "local_optimizer": "adam"}])
def test_cohort_equals_serial_with_more_private_parameters(
    kept: str, settings: dict[str, Any]
) -> None:
    outcomes = rounds_agree(
        2, private_parameters=kept, num_experts=1, dropout=0.2, max_windows_per_user=0,
        private_learning_rate=0.03, private_weight_decay=0.01, **settings,
    )  # fmt: skip
    private, public = outcomes[0].private.keys(), outcomes[0].public.keys()
    assert {"head.up.weight", "user_bias"} <= private
    assert bool(public) is (kept == "head")
    assert not private & public


@pytest.mark.parametrize("kept", ["head", "all"])
def test_chunks_and_scores_with_more_private_parameters(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = small_config(private_parameters=kept, dropout=0.2), small_dataset(SIZES)
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    load_shared(network, *initial_shared(network))
    for part in ("valid", "test"):
        one = score_serially(network, cohort, data=config.data, part=part)  # type: ignore[arg-type]
        all_at_once = score_cohort(network, cohort, data=config.data, part=part)  # type: ignore[arg-type]
        np.testing.assert_allclose(all_at_once.logits, one.logits, atol=1e-6)
        assert all_at_once.routes.tolist() == one.routes.tolist()
        assert len(np.unique(one.logits)) == len(SIZES)
    monkeypatch.setattr(cohort_training, "CACHE_POSITIONS", 1)
    assert_same(train("cohort", config), train("serial", config))


@pytest.mark.parametrize("kept", ["head", "all"])
def test_a_users_own_head_learns_from_him_alone(kept: str) -> None:
    config = small_config(private_parameters=kept, private_learning_rate=0.5)
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    everybody = cohort_of(dataset, network, EVERYBODY)
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    start = start_of(network)
    together = train_cohort(network, start, everybody, **settings)
    alone = train_cohort(network, start, part_of(everybody, np.array([2])), **settings)
    for name, rows in alone.private.items():
        torch.testing.assert_close(rows[0], together.private[name][2])
    before = everybody.private["head.up.weight"][2]
    assert not torch.equal(alone.private["head.up.weight"][0], before)


# Clusters


def start_of_clusters(network: MRFFNetwork, clusters: int) -> Start:
    """Copies that differ."""
    random, group = torch.Generator().manual_seed(5), {}
    single = start_of(network)
    for cluster in range(clusters):
        for name, value in {**single.public, **single.group}.items():
            noise = 0.5 * torch.randn(value.shape, generator=random, dtype=value.dtype)
            group[cluster_name(cluster, name)] = value + (noise if cluster else 0.0)
    return Start(1, {}, group, torch.full((1, clusters), 1.0 / clusters))


def clustered(clusters: int, **settings: Any) -> tuple[RunConfig, Dataset, MRFFNetwork, Start]:
    config, dataset = small_config(clusters=clusters, **ONE_MODEL, **settings), small_dataset(SIZES)
    network = network_of(config, dataset)
    return config, dataset, network, start_of_clusters(network, clusters)


@pytest.mark.parametrize("steps", [1, 2])
def test_cohort_equals_serial_with_clusters(steps: int) -> None:
    config, _, _, start = clustered(3, local_steps=steps, dropout=0.2)
    cohort, serial = (train(name, config, start=start) for name in ("cohort", "serial"))
    assert_same(cohort, serial)
    assert (serial.expert_users > 0).sum() > 1  # otherwise choosing is not tested
    assert serial.public == {}


def test_users_take_the_copy_with_the_lowest_training_loss() -> None:
    config, dataset, network, start = clustered(3, dropout=0.3)
    cohort = cohort_of(dataset, network, EVERYBODY)
    quiet = replace(config.training, local_learning_rate=1e-9)
    losses = []
    for cluster in range(3):
        public, group = copy_of(network, start.group, cluster)
        losses.append([])
        for user in EVERYBODY:
            one = part_of(cohort, np.array([user]))
            network.dropout = 0.0
            trained = train_serially(
                network, Start(1, public, group, None), one, data=config.data, training=quiet
            )
            losses[-1].append(trained.loss_sum / trained.num_targets)
    chosen = best_copies(network, start.group, cohort, config.data, 3)
    assert chosen.tolist() == np.argmin(losses, axis=0).tolist()
    assert len(set(chosen.tolist())) > 1


def test_one_cluster_is_fedavg() -> None:
    config, dataset, network, start = clustered(1, dropout=0.2)
    cohort = cohort_of(dataset, network, EVERYBODY)
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    clusters = ClusterTrainer(train_cohort, 1)(network, start, cohort, **settings)
    plain = train_cohort(network, start_of(network), cohort, **settings)
    everything = {**plain.public, **plain.group}
    assert clusters.group.keys() == {cluster_name(0, name) for name in everything}
    for name, total in everything.items():
        assert torch.equal(clusters.group[cluster_name(0, name)], total)
    assert (clusters.weight, clusters.loss_sum) == (plain.weight, plain.loss_sum)
    assert clusters.expert_users.tolist() == [[len(SIZES)]]


def test_scores_are_those_of_the_chosen_copy() -> None:
    config, dataset, network, start = clustered(3)
    cohort = cohort_of(dataset, network, EVERYBODY)
    scores = score_clusters(
        score_cohort, network, start.group, cohort, data=config.data, part="test"
    )
    for user, (cluster,) in enumerate(scores.routes):
        load_shared(network, *copy_of(network, start.group, cluster))
        own = part_of(cohort, np.array([user]))
        alone = score_serially(network, own, data=config.data, part="test")
        np.testing.assert_allclose(scores.logits[user], alone.logits[0], atol=1e-6)
    assert tensors_of(network, "private") == {}


def test_a_user_who_is_not_finite_is_left_out_of_his_cluster() -> None:
    config, dataset, network, start = clustered(2)
    own = small_config(clusters=2, **{**ONE_MODEL, "user_bias": True})
    with_bias = network_of(own, dataset)
    cohort = cohort_of(dataset, with_bias, EVERYBODY)
    cohort.private["user_bias"][3] = float("nan")
    trained = ClusterTrainer(train_cohort, 2)(
        with_bias, start, cohort, data=config.data, training=config.training
    )
    assert trained.kept.tolist() == [user != 3 for user in EVERYBODY]
    assert trained.routes[3, 0] == -1
    assert int(trained.expert_users.sum()) == len(SIZES) - 1
    assert network.kept_private == "user"

"""Rounds of local training on a small dataset, without messages and without a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners import Cohort, Learner, SharedModel, Trained
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from mrff.algorithms import algorithm_of
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.metrics.routes import load_shares
from mrff_model.building import initial_shared, tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import cluster_name, expert_of, has_expert
from tests.support.small_data import plain_client, small_config, small_dataset, small_network

SIZES = (9, 4, 14, 3, 25, 9, 40)
EVERYBODY = np.arange(len(SIZES))
LEARNERS: dict[str, Callable[[MRFFNetwork, RunConfig], Learner]] = {
    "serial": SerialLearner,
    "cohort": CohortLearner,
}
ONE_MODEL: dict[str, Any] = {
    "num_experts": 1,
    "user_network_dim": "off",
    "user_embedding_dim": "off",
    "user_bias": False,
}


def network_of(config: RunConfig, dataset: Dataset) -> MRFFNetwork:
    """The network of ``config`` in the precision of the test."""
    return small_network(config, dataset).to(torch.get_default_dtype())


def model_of(network: MRFFNetwork, loads: torch.Tensor | None = None) -> SharedModel:
    """The shared model of round 1: the network as it starts."""
    public, group = (
        {name: torch.from_numpy(array.copy()) for name, array in part.items()}
        for part in initial_shared(network)
    )
    return SharedModel(1, public, group, loads)


def cohort_of(
    dataset: Dataset, network: MRFFNetwork, users: np.ndarray, *, spread: float = 0.2
) -> Cohort:
    """The users, each with private parameters that differ from the next one's by ``spread``."""
    random = torch.Generator().manual_seed(3)
    private = {
        name: value + spread * torch.randn(len(users), *value.shape[1:], generator=random)
        for name, value in tensors_of(network, "private").items()
    }
    return Cohort(dataset, users, private, np.full((len(users), len(network.layers)), -1))


def learner_named(name: str, network: MRFFNetwork, config: RunConfig) -> Learner:
    """A learner for the configured algorithm."""
    return algorithm_of(config).learner(LEARNERS[name](network, config), config)


def train(learner: Learner, config: RunConfig, model: SharedModel, cohort: Cohort) -> Trained:
    """A round of the cohort without a privacy mechanism."""
    return learner.train(model, cohort, plain_client(config, cohort.dataset))


def train_alike(
    config: RunConfig, dataset: Dataset, users: list[int], loads: torch.Tensor | None = None
) -> Trained:
    """A round, by the oracle, of users whose private parameters are those of a new user."""
    network = small_network(config, dataset)
    cohort = cohort_of(dataset, network, np.array(users), spread=0.0)
    return train(SerialLearner(network, config), config, model_of(network, loads), cohort)


def public_of(trained: Trained) -> dict[str, torch.Tensor]:
    """The summed updates of the public arrays."""
    updates = trained.sums.updates
    return {n: torch.from_numpy(array) for n, array in updates.items() if not has_expert(n)}


def group_of(trained: Trained) -> dict[str, torch.Tensor]:
    """The summed updates of the experts that somebody chose."""
    updates = trained.sums.updates
    return {n: torch.from_numpy(array) for n, array in updates.items() if has_expert(n)}


def next_round(model: SharedModel, cohort: Cohort, trained: Trained) -> tuple[SharedModel, Cohort]:
    """What a server would send next, plain averages and the loads; users as they are by then."""
    numbers, weight = trained.sums.numbers, trained.sums.number("weight")
    public = {n: v + public_of(trained)[n].to(v) / weight for n, v in model.public.items()}
    group = dict(model.group)
    for name, total in group_of(trained).items():
        mean = total.to(group[name]) / numbers["expert_weight"][expert_of(name)]
        group[name] = group[name] + mean
    loads = torch.from_numpy(load_shares(numbers["expert_users"]))
    return (
        SharedModel(model.round_number + 1, public, group, loads),
        replace(cohort, private=trained.private, routes=trained.routes),
    )


def assert_same(one: Trained, other: Trained) -> None:
    """The same sums, private parameters, routes and users left out, up to rounding."""
    for mine, theirs in (
        (public_of(one), public_of(other)),
        (group_of(one), group_of(other)),
        (one.private, other.private),
    ):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            torch.testing.assert_close(values, theirs[name], atol=1e-5, rtol=1e-5, equal_nan=True)
    assert one.sums.numbers.keys() == other.sums.numbers.keys()
    for name, number in one.sums.numbers.items():
        expected = other.sums.numbers[name]
        if name == "loss":
            assert number == pytest.approx(expected, abs=1e-5)
        elif name == "expert_weight":
            np.testing.assert_allclose(number, expected)
        else:
            assert number.tolist() == expected.tolist(), name
    assert one.routes.tolist() == other.routes.tolist()
    assert one.kept.tolist() == other.kept.tolist()


def rounds_agree(number: int = 3, **changes: bool | int | float | str) -> list[Trained]:
    """Runs both learners side by side; every round starts from the oracle's result."""
    config, dataset = small_config(**changes), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)
    serial, together = (LEARNERS[name](network, config) for name in ("serial", "cohort"))
    outcomes = []
    for _ in range(number):
        oracle = train(serial, config, model, cohort)
        assert_same(train(together, config, model, cohort), oracle)
        model, cohort = next_round(model, cohort, oracle)
        outcomes.append(oracle)
    return outcomes


def copies_of(network: MRFFNetwork, clusters: int) -> SharedModel:
    """The shared model of clusters: copies of the network that differ."""
    random, group = torch.Generator().manual_seed(5), {}
    single = model_of(network)
    for cluster in range(clusters):
        for name, value in {**single.public, **single.group}.items():
            noise = 0.5 * torch.randn(value.shape, generator=random, dtype=value.dtype)
            group[cluster_name(cluster, name)] = value + (noise if cluster else 0.0)
    return SharedModel(1, {}, group, torch.full((1, clusters), 1.0 / clusters))


def clustered(
    clusters: int, **settings: Any
) -> tuple[RunConfig, Dataset, MRFFNetwork, SharedModel]:
    """A run with clusters of the simplest network."""
    config, dataset = small_config(clusters=clusters, **ONE_MODEL, **settings), small_dataset(SIZES)
    network = network_of(config, dataset)
    return config, dataset, network, copies_of(network, clusters)

"""On a GPU a node computes what it computes on its CPU; skipped where PyTorch sees none."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrff.config import PrivacySettings
from mrff.experiments.central.pooled import train_pooled
from mrff.privacy.mechanisms.clipping import STATISTICS
from mrff.privacy.noise import predictable
from tests.support.federation import run_federation, shared_arrays
from tests.support.private_rounds import private_round, watch
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import (
    EVERYBODY,
    SIZES,
    assert_same,
    clustered,
    cohort_of,
    learner_named,
    model_of,
    network_of,
    train,
)

GPU = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("double_precision"),
]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"gate_mode": "hard", "gate_input": "hidden", "history_feedback": False},
        {"max_windows_per_user": "all", "user_weighting": "targets", "item_bias": True},
        {"user_factors": True, "user_factors_prior": 5.0, "private_weight_decay": 0.02},
        {"local_optimizer": "adam", "local_learning_rate": 0.03, "dropout": 0.2},
        {"backbone": "hstu", "num_heads": 3},
        {"backbone": "linear", "num_heads": 3},
        {"private_parameters": "head", "num_experts": 1},
        {"private_parameters": "all", "num_experts": 1},
    ],
)
def test_a_cohort_on_the_gpu_equals_users_alone_on_the_cpu(
    changes: dict[str, Any], steps: int
) -> None:
    config, dataset = small_config(**{"local_steps": steps, **changes}), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)
    oracle = train(learner_named("serial", deepcopy(network), config), config, model, cohort)
    trained = train(learner_named("cohort", network.to(GPU), config), config, model, cohort)
    assert_same(trained, oracle)
    assert all(value.device.type == "cpu" for value in trained.private.values())


def test_clusters_on_the_gpu() -> None:
    config, dataset, network, model = clustered(3)
    cohort = cohort_of(dataset, network, EVERYBODY)
    on_cpu, on_gpu = (
        train(learner_named("cohort", deepcopy(network).to(device), config), config, model, cohort)
        for device in ("cpu", GPU)
    )
    assert_same(on_gpu, on_cpu)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scores_on_the_gpu(part: Any) -> None:
    config, dataset = small_config(), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, np.array([4, 0, 2]))
    alone = learner_named("serial", deepcopy(network), config).score(model, cohort, part)
    scores = learner_named("cohort", network.to(GPU), config).score(model, cohort, part)
    np.testing.assert_allclose(scores.logits, alone.logits, atol=1e-6)
    assert scores.routes.tolist() == alone.routes.tolist()


def test_pooled_training_on_the_gpu() -> None:
    config, dataset = small_config(num_server_rounds=3), small_dataset((9, 14, 6, 9, 12))
    network = network_of(config, dataset)
    results = [train_pooled(copy, dataset, config) for copy in (deepcopy(network), network.to(GPU))]
    assert results[0].best == results[1].best
    np.testing.assert_allclose(results[1].logits, results[0].logits, atol=1e-4)


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_clipped_sums_of_users_on_the_gpu(mode: str) -> None:
    task = private_round(
        small_dataset(SIZES), EVERYBODY, privacy=PrivacySettings(mode=mode), user_factors=True
    )
    task.network.double()
    oracle, trained = (task.on(device).train() for device in ("cpu", GPU))
    exact, found = oracle.sums.updates, trained.sums.updates
    assert found.keys() == exact.keys()
    for name, total in exact.items():
        np.testing.assert_allclose(found[name], total, atol=1e-6, rtol=1e-5)
    for name, rows in oracle.private.items():
        torch.testing.assert_close(trained.private[name], rows, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(found[STATISTICS], exact[STATISTICS], atol=1e-9)
    assert trained.routes.tolist() == oracle.routes.tolist()


@pytest.mark.parametrize("own", ["free", "noised", "frozen"])
def test_dp_sgd_on_the_gpu(own: str) -> None:
    privacy = PrivacySettings(mode="local-dp-sgd", private_training=own)
    task = private_round(small_dataset(SIZES), EVERYBODY, privacy=privacy, local_steps=2)
    task.network.double()
    (oracle, exact), (trained, steps) = (
        watch(task.on(device), left_out=3) for device in ("cpu", GPU)
    )
    assert len(exact) == 2
    for one, other in zip(exact, steps, strict=True):
        torch.testing.assert_close(one, other.cpu(), atol=1e-6, rtol=1e-5)
    for name, rows in oracle.private.items():
        torch.testing.assert_close(trained.private[name], rows, atol=1e-6, rtol=1e-5)
    assert trained.routes.tolist() == oracle.routes.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "central-user"},
        {"mode": "local-dp-sgd"},
    ],
    ids=["plain", "central-user", "local-dp-sgd"],
)
def test_a_federation_of_nodes_with_a_gpu(
    small_data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    torch.set_default_dtype(torch.float32)
    runs = {"on-cpu": "cpu", "on-gpu": GPU}
    for name, device in runs.items():
        with predictable(5):
            run_federation(
                small_data, tmp_path, nodes=2, name=name, device=device,
                server_optimizer="average", **changes,
            )  # fmt: skip
    on_cpu, on_gpu = (shared_arrays(tmp_path, name) for name in runs)
    for name, array in on_cpu.items():
        np.testing.assert_allclose(on_gpu[name], array, atol=1e-4, err_msg=name)

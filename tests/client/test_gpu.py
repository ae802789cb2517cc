"""On a GPU a node computes what it computes on its CPU; skipped where PyTorch sees none."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app.cohort_evaluation import score_cohort
from client_app.evaluation import score_serially
from client_app.privacy_sgd import train_dp_sgd
from client_app.privacy_updates import train_whole_users
from client_app.serial_training import train_serially
from client_app.training import trainer_named
from mrff.config import PrivacySettings
from mrff.experiments.central.pooled import train_pooled
from tests.client.test_cohort_training import (
    SIZES,
    assert_same,
    cohort_of,
    double_precision_on_one_thread,  # noqa: F401, a fixture
    network_of,
    start_of,
)
from tests.client.test_rivals import clustered
from tests.support.federation import run_federation, shared_arrays
from tests.support.private_rounds import ScriptedRound, Watched, private_round
from tests.support.small_data import small_config, small_dataset

GPU = "cuda"
USERS = np.arange(len(SIZES))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"gate_mode": "hard", "gate_input": "hidden", "history_feedback": False},
        {"max_windows_per_user": 0, "user_weighting": "targets", "item_bias": True},
        {"user_factors": True, "user_factors_prior": 5.0, "private_weight_decay": 0.02},
        {"local_optimizer": "adam", "local_learning_rate": 0.03, "dropout": 0.2},
        {"backbone": "hstu", "num_heads": 3},
        {"backbone": "linear", "num_heads": 3},
        {"private_parameters": "head", "num_experts": 1},
    ],
)
def test_a_cohort_on_the_gpu_equals_users_alone_on_the_cpu(
    changes: dict[str, Any], steps: int
) -> None:
    config, dataset = small_config(**{"local_steps": steps, **changes}), small_dataset(SIZES)
    network = network_of(config, dataset)
    start, cohort = start_of(network), cohort_of(dataset, network, USERS)
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    oracle = train_serially(deepcopy(network), start, cohort, **settings)
    trained = trainer_named("cohort")(network.to(GPU), start, cohort, **settings)
    assert_same(trained, oracle)
    assert all(value.device.type == "cpu" for value in trained.private.values())


def test_clusters_on_the_gpu() -> None:
    config, dataset, network, start = clustered(3)
    cohort = cohort_of(dataset, network, USERS)
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    trainer = trainer_named("cohort", clusters=3)
    oracle = trainer(deepcopy(network), start, cohort, **settings)
    assert_same(trainer(network.to(GPU), start, cohort, **settings), oracle)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scores_on_the_gpu(part: Any) -> None:
    config, dataset = small_config(), small_dataset(SIZES)
    network = network_of(config, dataset)
    users = np.array([4, 0, 2])
    cohort = cohort_of(dataset, network, users)
    alone = score_serially(deepcopy(network), cohort, data=config.data, part=part)
    scores = score_cohort(network.to(GPU), cohort, data=config.data, part=part)
    np.testing.assert_allclose(scores.logits, alone.logits, atol=1e-6)
    assert scores.routes.tolist() == alone.routes.tolist()


def test_pooled_training_on_the_gpu() -> None:
    config, dataset = small_config(num_server_rounds=3), small_dataset((9, 14, 6, 9, 12))
    network = network_of(config, dataset)
    results = [train_pooled(copy, dataset, config) for copy in (deepcopy(network), network.to(GPU))]
    assert results[0].best_pass == results[1].best_pass
    np.testing.assert_allclose(results[1].scores.logits, results[0].scores.logits, atol=1e-4)


@pytest.mark.parametrize("mode", ["central-user", "laplace"])
def test_clipped_sums_of_users_on_the_gpu(mode: str) -> None:
    privacy, order = PrivacySettings(privacy_mode=mode), 1 if mode == "laplace" else 2
    network, task = private_round(
        small_dataset(SIZES), USERS, privacy=privacy, order=order, user_factors=True
    )
    network = network.double()
    oracle = train_whole_users(deepcopy(network), task)
    upload = train_whole_users(network.to(GPU), task)
    for name, total in oracle.shared.items():
        torch.testing.assert_close(upload.shared[name], total, atol=1e-6, rtol=1e-5)
    for name, rows in oracle.private.items():
        torch.testing.assert_close(upload.private[name], rows, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(upload.statistics, oracle.statistics, atol=1e-9)
    assert upload.routes.tolist() == oracle.routes.tolist()


@pytest.mark.parametrize("own", ["free", "noised", "frozen"])
def test_dp_sgd_on_the_gpu(own: str) -> None:
    privacy = PrivacySettings(privacy_mode="local-dp-sgd", own_parameters=own)
    network, task = private_round(small_dataset(SIZES), USERS, privacy=privacy, local_steps=2)
    network = network.double()
    uploads, steps = [], []
    for copy in (deepcopy(network), network.to(GPU)):
        uploads.append(train_dp_sgd(copy, ScriptedRound.of(task, 3), Watched))
        steps.append([step.cpu() for step in Watched.last.steps(2 if own == "noised" else 1)])
    assert len(steps[0]) == 2
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    for name, rows in uploads[0].private.items():
        torch.testing.assert_close(uploads[1].private[name], rows, atol=1e-6, rtol=1e-5)
    assert uploads[1].routes.tolist() == uploads[0].routes.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"privacy_mode": "central-user", "noise_seed": 5},
        {"privacy_mode": "local-dp-sgd", "noise_seed": 5},
    ],
    ids=["plain", "central-user", "local-dp-sgd"],
)
def test_a_federation_of_nodes_with_a_gpu(
    small_data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    torch.set_default_dtype(torch.float32)
    runs = {"on-cpu": "cpu", "on-gpu": GPU}
    for name, device in runs.items():
        run_federation(
            small_data, tmp_path, nodes=2, name=name, device=device, server_optimizer="average",
            **changes,
        )  # fmt: skip
    on_cpu, on_gpu = (shared_arrays(tmp_path, name) for name in runs)
    for name, array in on_cpu.items():
        np.testing.assert_allclose(on_gpu[name], array, atol=1e-4, err_msg=name)

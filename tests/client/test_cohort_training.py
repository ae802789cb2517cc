"""The cohort trainer gives what the oracle gives: parameters, losses, routes, weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client_app import cohort_training, one_step, serial_training
from client_app.cohort_chunks import chunks_of, training_sizes
from client_app.cohort_outcome import Outcome
from client_app.cohort_training import chunk_limits, train_cohort
from client_app.serial_training import train_serially
from client_app.training import Cohort, Start, Trained
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff_model.building import initial_shared, tensors_of
from mrff_model.network import Batch, MRFFNetwork, Output
from tests.support.small_data import small_config, small_dataset, small_network

SIZES = (9, 4, 14, 3, 25, 9, 40)


@pytest.fixture(autouse=True)
def double_precision_on_one_thread() -> Iterator[None]:
    """Adam would turn the rounding of a vanishing gradient into a full step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def network_of(config: RunConfig, dataset: Dataset) -> MRFFNetwork:
    return small_network(config, dataset).to(torch.get_default_dtype())


def start_of(network: MRFFNetwork) -> Start:
    public, group = (
        {name: torch.from_numpy(array) for name, array in part.items()}
        for part in initial_shared(network)
    )
    return Start(1, public, group, None)


def cohort_of(dataset: Dataset, network: MRFFNetwork, users: np.ndarray) -> Cohort:
    """The users, each with private parameters that differ from the next one's."""
    random = torch.Generator().manual_seed(3)
    private = {
        name: value + 0.2 * torch.randn(len(users), *value.shape[1:], generator=random)
        for name, value in tensors_of(network, "private").items()
    }
    return Cohort(dataset, users, private)


def next_start(start: Start, trained: Trained, network: MRFFNetwork) -> Start:
    """What a server would send next: plain averages, and the loads."""
    public = {n: v + trained.public[n].to(v) / trained.weight for n, v in start.public.items()}
    group = dict(start.group)
    for name, total in trained.group.items():
        layer, expert = int(name.split(".")[1]), int(name.split(".")[3])
        group[name] = group[name] + total.to(group[name]) / trained.expert_weight[layer, expert]
    loads = torch.from_numpy(trained.expert_users / trained.expert_users.sum(1, keepdims=True))
    return Start(start.round_number + 1, public, group, loads)


def assert_same(one: Trained, other: Trained) -> None:
    for part in ("public", "group", "private"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            torch.testing.assert_close(values, theirs[name], atol=1e-5, rtol=1e-5, equal_nan=True)
    assert (one.weight, one.num_targets) == (other.weight, other.num_targets)
    np.testing.assert_allclose(one.expert_weight, other.expert_weight)
    assert one.expert_users.tolist() == other.expert_users.tolist()
    assert one.routes.tolist() == other.routes.tolist()
    assert one.kept.tolist() == other.kept.tolist()
    assert one.loss_sum == pytest.approx(other.loss_sum, abs=1e-5)


def rounds_agree(number: int = 3, **changes: bool | int | float | str) -> list[Trained]:
    """Runs both trainers side by side; every round starts from the oracle's result."""
    config, dataset = small_config(**changes), small_dataset(SIZES)
    network = network_of(config, dataset)
    start, cohort = start_of(network), cohort_of(dataset, network, np.arange(len(SIZES)))
    outcomes = []
    for _ in range(number):
        settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
        oracle = train_serially(network, start, cohort, **settings)
        assert_same(train_cohort(network, start, cohort, **settings), oracle)
        start, cohort = next_start(start, oracle, network), replace(cohort, private=oracle.private)
        outcomes.append(oracle)
    return outcomes


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("gate_mode", ["switch", "hard"])
@pytest.mark.parametrize("gate_input", ["history", "hidden"])
def test_cohort_equals_serial_over_three_rounds(
    steps: int, optimizer: str, gate_mode: str, gate_input: str
) -> None:
    outcomes = rounds_agree(
        local_steps=steps, local_optimizer=optimizer, gate_mode=gate_mode, gate_input=gate_input,
        history_feedback=gate_input == "history", dropout=0.3, private_weight_decay=0.01,
        local_learning_rate=0.3 if optimizer == "sgd" else 0.03,
    )  # fmt: skip
    assert (outcomes[0].expert_users > 0).sum() > 2  # otherwise routing is not tested
    assert all(outcome.kept.all() for outcome in outcomes)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"max_windows_per_user": 0},
        {"max_windows_per_user": 2, "user_weighting": "targets"},
        {"user_weighting": "targets", "dropout": 0.5},
        {"user_network_dim": 0, "user_bias": False, "user_features": False},
        {"user_embedding_dim": 0, "hidden_dim": 6, "num_heads": 2, "expert_dim": 5},
        {"num_layers": 1, "num_experts": 1, "balance_weight": 0.0},
        {"item_bias": True, "dropout": 0.3, "max_windows_per_user": 0},
        {"user_factors": True, "user_factors_prior": 5.0, "private_weight_decay": 0.02},
        {"user_factors": True, "local_optimizer": "adam", "local_learning_rate": 0.03},
        {"backbone": "hstu", "num_heads": 3, "dropout": 0.2},
        {"backbone": "linear", "num_heads": 3, "dropout": 0.2, "max_windows_per_user": 0},
    ],
)
def test_cohort_equals_serial_with_other_settings(
    changes: dict[str, bool | int | float | str], steps: int
) -> None:
    rounds_agree(2, local_steps=steps, **changes)


@pytest.mark.parametrize("steps", [1, 2])
def test_chunks_of_one_user_give_the_same(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_training, "CACHE_POSITIONS", 1)
    rounds_agree(2, local_steps=steps, dropout=0.2)


def test_single_precision_agrees_too() -> None:
    torch.set_default_dtype(torch.float32)
    rounds_agree(3, local_steps=2, dropout=0.2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_users_that_are_not_finite_are_left_out_and_the_others_are_not(optimizer: str) -> None:
    config, dataset = small_config(local_optimizer=optimizer, dropout=0.2), small_dataset(SIZES)
    network = network_of(config, dataset)
    start, cohort = start_of(network), cohort_of(dataset, network, np.arange(len(SIZES)))
    cohort.private["user_bias"][1] = float("nan")
    cohort.private["layers.0.user_network.up_weight"][4, 0] = float("inf")
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    trained = train_cohort(network, start, cohort, **settings)
    assert trained.kept.tolist() == [True, False, True, True, False, True, True]
    assert_same(trained, train_serially(network, start, cohort, **settings))
    assert (trained.routes[~trained.kept] == -1).all()
    for name, rows in trained.private.items():
        left_out = torch.from_numpy(~trained.kept)
        same = torch.isclose(rows, cohort.private[name], rtol=0, atol=0, equal_nan=True)
        assert same[left_out].all()

    healthy = np.flatnonzero(trained.kept)
    rest = Cohort(dataset, healthy, {n: v[healthy] for n, v in cohort.private.items()})
    for name, total in train_cohort(network, start, rest, **settings).public.items():
        torch.testing.assert_close(trained.public[name], total)


def test_a_finite_loss_with_an_endless_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass is healthy; only the sum of the gradients shows that somebody is not."""
    config, dataset = small_config(), small_dataset(SIZES)
    network = network_of(config, dataset)
    start, cohort = start_of(network), cohort_of(dataset, network, np.arange(len(SIZES)))
    own_losses = one_step.user_losses

    def steep(output: Output, batch: Batch, **settings: Any) -> tuple[Tensor, Tensor]:
        losses, bce = own_losses(output, batch, **settings)
        steep_users = batch.mask.sum((1, 2)) == 7  # the two with 9 interactions
        chosen = output.chosen[steep_users]
        slope = (chosen - chosen.detach()).sum(1).abs().sqrt()  # 0, but infinitely steep
        return losses.index_add(0, torch.where(steep_users)[0], slope), bce

    monkeypatch.setattr(one_step, "user_losses", steep)
    monkeypatch.setattr(serial_training, "user_losses", steep)
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    trained = train_cohort(network, start, cohort, **settings)
    assert trained.kept.tolist() == [False, True, True, True, True, False, True]
    assert_same(trained, train_serially(network, start, cohort, **settings))


def test_a_round_without_users() -> None:
    config, dataset = small_config(), small_dataset(SIZES)
    network = network_of(config, dataset)
    start = start_of(network)
    nobody = cohort_of(dataset, network, np.arange(0))
    settings: Mapping[str, Any] = {"data": config.data, "training": config.training}
    assert_same(
        train_cohort(network, start, nobody, **settings),
        train_serially(network, start, nobody, **settings),
    )


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_a_chunk_that_does_not_fit_memory_is_halved_with_a_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    step = cohort_training.one_sgd_step

    def small_memory(
        network: MRFFNetwork, shared: Any, own: Any, batch: Batch, **more: Any
    ) -> Outcome:
        tried.append(len(batch.items))
        if len(batch.items) > 2:
            raise error
        return step(network, shared, own, batch, **more)

    monkeypatch.setattr(cohort_training, "one_sgd_step", small_memory)
    with caplog.at_level(logging.WARNING):
        rounds_agree(1, dropout=0.2)
    assert tried == [7, 3, 1, 2, 4, 2, 2]
    assert "a chunk of 7 users does not fit memory and is halved" in caplog.text
    monkeypatch.setattr(cohort_training, "one_sgd_step", failing(error))
    with pytest.raises(type(error)):
        rounds_agree(1)


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Outcome:
        raise error

    return fail


def test_another_error_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_training, "one_sgd_step", failing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        rounds_agree(1)


@pytest.mark.parametrize("changes", [{}, {"local_steps": 2}, {"local_optimizer": "adam"}])
def test_the_memory_setting_bounds_the_chunks(changes: dict[str, Any]) -> None:
    dataset = small_dataset(tuple(range(3, 100)))
    users = np.arange(dataset.num_users)
    for megabytes in (1, 4):
        config = small_config(cohort_memory_mb=megabytes, max_windows_per_user=0, **changes)
        limits = chunk_limits(small_network(config, dataset), config.training)
        sizes = training_sizes(dataset, users, config.data)
        chunks = chunks_of(sizes, limits)
        assert sorted(np.concatenate(chunks).tolist()) == users.tolist()
        for rows in chunks:
            positions = len(rows) * sizes[rows].max(axis=0).prod()
            cost = positions * limits.memory_per_position + len(rows) * limits.memory_per_user
            assert len(rows) == 1 or cost <= megabytes * 2**20

"""The cohort learner gives what the oracle gives: parameters, losses, routes, weights."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client_app import devices
from client_app.learners import Cohort, SharedModel, one_step, serial
from client_app.learners import cohort as cohort_learner
from client_app.learners.base import Work, trained_parameters
from client_app.learners.chunks import chunks_of, training_sizes
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from mrff.config import RunConfig
from mrff.sums import Outcome, Tensors
from mrff_model.batch import Batch, Output
from mrff_model.network import MRFFNetwork
from tests.support.small_data import plain_client, small_config, small_dataset, small_network
from tests.support.small_training import (
    EVERYBODY,
    SIZES,
    assert_same,
    cohort_of,
    model_of,
    network_of,
    public_of,
    rounds_agree,
    train,
)

pytestmark = pytest.mark.usefixtures("double_precision")


def small_round(config: RunConfig) -> tuple[MRFFNetwork, SharedModel, Cohort]:
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    return network, model_of(network), cohort_of(dataset, network, EVERYBODY)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("gate_mode", ["switch", "hard", "evidence"])
@pytest.mark.parametrize("gate_input", ["history", "hidden"])
def test_cohort_equals_serial_over_three_rounds(
    steps: int, optimizer: str, gate_mode: str, gate_input: str
) -> None:
    outcomes = rounds_agree(
        local_steps=steps, local_optimizer=optimizer, gate_mode=gate_mode, gate_input=gate_input,
        history_feedback=gate_input == "history", dropout=0.3, private_weight_decay=0.01,
        local_learning_rate=0.3 if optimizer == "sgd" else 0.03,
    )  # fmt: skip
    experts = outcomes[0].sums.numbers["expert_users"]
    assert (experts > 0).sum() > 2  # otherwise routing is not tested
    assert all(outcome.kept.all() for outcome in outcomes)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"max_windows_per_user": "all"},
        {"max_windows_per_user": 2, "user_weighting": "targets"},
        {"user_weighting": "targets", "dropout": 0.5},
        {"user_network_dim": "off", "user_bias": False, "user_features": False},
        {"user_embedding_dim": "off", "hidden_dim": 6, "num_heads": 2, "expert_dim": 5},
        {"num_layers": 1, "num_experts": 1, "balance_loss_weight": 0.0},
        {"item_bias": True, "dropout": 0.3, "max_windows_per_user": "all"},
        {"user_factors": True, "user_factors_prior": 5.0, "private_weight_decay": 0.02},
        {"user_factors": True, "local_optimizer": "adam", "local_learning_rate": 0.03},
        {"backbone": "hstu", "num_heads": 3, "dropout": 0.2},
        {"backbone": "linear", "num_heads": 3, "dropout": 0.2, "max_windows_per_user": "all"},
        {"head": "linear", "num_experts": 1, "dropout": 0.2},
        {"item_ids": "hashed", "hash_rows": 3, "dropout": 0.2, "max_windows_per_user": "all"},
        {"item_ids": "features", "objective": "both", "next_weight": 0.3},
        {"head": "target-attention", "num_experts": 1, "max_windows_per_user": "all"},
    ],
)
def test_cohort_equals_serial_with_other_settings(
    changes: dict[str, bool | int | float | str], steps: int
) -> None:
    rounds_agree(2, local_steps=steps, **changes)


@pytest.mark.parametrize("steps", [1, 2])
def test_chunks_of_one_user_give_the_same(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_learner, "CACHE_POSITIONS", 1)
    rounds_agree(2, local_steps=steps, dropout=0.2)


def test_single_precision_agrees_too() -> None:
    torch.set_default_dtype(torch.float32)
    rounds_agree(3, local_steps=2, dropout=0.2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_users_that_are_not_finite_are_left_out_and_the_others_are_not(optimizer: str) -> None:
    config = small_config(local_optimizer=optimizer, dropout=0.2)
    network, model, cohort = small_round(config)
    cohort.private["user_bias"][1] = float("nan")
    cohort.private["layers.0.user_network.up_weight"][4, 0] = float("inf")
    learner = CohortLearner(network, config)
    trained = train(learner, config, model, cohort)
    assert trained.kept.tolist() == [True, False, True, True, False, True, True]
    assert_same(trained, train(SerialLearner(network, config), config, model, cohort))
    assert (trained.routes[~trained.kept] == -1).all()
    for name, rows in trained.private.items():
        left_out = torch.from_numpy(~trained.kept)
        same = torch.isclose(rows, cohort.private[name], rtol=0, atol=0, equal_nan=True)
        assert same[left_out].all()

    rest = cohort.part(np.flatnonzero(trained.kept))
    for name, total in public_of(train(learner, config, model, rest)).items():
        torch.testing.assert_close(public_of(trained)[name], total)


def test_a_finite_loss_with_an_endless_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass is healthy; only the sum of the gradients shows that somebody is not."""
    config = small_config()
    network, model, cohort = small_round(config)
    own_losses = one_step.user_losses

    def steep(output: Output, batch: Batch, *others: Any) -> tuple[Tensor, Tensor]:
        losses, bce = own_losses(output, batch, *others)
        steep_users = batch.mask.sum((1, 2)) == 7  # the two with 9 interactions
        chosen = output.chosen[steep_users]
        slope = (chosen - chosen.detach()).sum(1).abs().sqrt()  # 0, but infinitely steep
        return losses.index_add(0, torch.where(steep_users)[0], slope), bce

    monkeypatch.setattr(one_step, "user_losses", steep)
    monkeypatch.setattr(serial, "user_losses", steep)
    trained = train(CohortLearner(network, config), config, model, cohort)
    assert trained.kept.tolist() == [False, True, True, True, True, False, True]
    assert_same(trained, train(SerialLearner(network, config), config, model, cohort))


def test_a_round_without_users() -> None:
    config = small_config()
    network, model, cohort = small_round(config)
    nobody = cohort.part(np.arange(0))
    one, other = (
        train(learner, config, model, nobody)
        for learner in (CohortLearner(network, config), SerialLearner(network, config))
    )
    assert_same(one, other)
    assert one.sums.updates == one.sums.numbers == {}


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_a_chunk_that_does_not_fit_memory_is_halved_with_a_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []
    step = cohort_learner.one_sgd_step

    def small_memory(network: MRFFNetwork, shared: Tensors, work: Work) -> Outcome:
        tried.append(len(work.batch.items))
        if len(work.batch.items) > 2:
            raise error
        return step(network, shared, work)

    monkeypatch.setattr(cohort_learner, "one_sgd_step", small_memory)
    with caplog.at_level(logging.WARNING):
        rounds_agree(1, dropout=0.2)
    assert tried == [7, 3, 1, 2, 4, 2, 2]
    assert "a chunk of 7 users does not fit memory and is halved" in caplog.text
    monkeypatch.setattr(cohort_learner, "one_sgd_step", failing(error))
    with pytest.raises(type(error)):
        rounds_agree(1)


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Outcome:
        raise error

    return fail


def test_another_error_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_learner, "one_sgd_step", failing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        rounds_agree(1)


@pytest.mark.parametrize("keep_apart", [False, True])
@pytest.mark.parametrize("changes", [{}, {"local_steps": 2}, {"local_optimizer": "adam"}])
def test_free_memory_bounds_the_chunks(
    changes: dict[str, Any], keep_apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small_dataset(tuple(range(3, 100)))
    users = np.arange(dataset.num_users)
    for megabytes in (1, 4):
        monkeypatch.setattr(devices, "host_memory", partial(int, megabytes * 2**20))
        config = small_config(max_windows_per_user="all", **changes)
        network = small_network(config, dataset)
        shared = trained_parameters(network, plain_client(config, dataset))
        limits = CohortLearner(network, config).chunk_limits(shared, keep_apart)
        sizes = training_sizes(dataset, users, config.data)
        chunks = chunks_of(sizes, limits)
        assert sorted(np.concatenate(chunks).tolist()) == users.tolist()
        for rows in chunks:
            positions = len(rows) * sizes[rows].max(axis=0).prod()
            cost = positions * limits.memory_per_position + len(rows) * limits.memory_per_user
            assert len(rows) == 1 or cost <= megabytes * 2**20

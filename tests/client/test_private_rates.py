"""How far a step moves what is a user's own: worked numbers, and both learners against them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client_app.learners.base import dropout_keys, training_batch
from client_app.learners.rates import move, private_rate
from mrff.config import TrainingSettings
from mrff_model.losses import LossWeights, user_losses
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import train_alike

TRAINING = TrainingSettings(
    private_learning_rate=0.01, user_factors_learning_rate=10.0, user_factors_prior=800.0
)


def test_factors_move_by_what_the_prior_leaves() -> None:
    rates = private_rate("user_factors", TRAINING, torch.tensor([1, 200, 800, 7200]))
    assert isinstance(rates, torch.Tensor)
    torch.testing.assert_close(rates, torch.tensor([10 / 801, 2.0, 5.0, 9.0]))


def test_everything_else_moves_at_the_private_rate_and_so_do_factors_with_adam() -> None:
    adam = TrainingSettings(private_learning_rate=0.01, local_optimizer="adam")
    for name, training in (("user_bias", TRAINING), ("user_factors", adam)):
        assert private_rate(name, training, torch.tensor([5, 500])) == 0.01


@given(
    targets=st.integers(0, 100_000),
    more=st.integers(1, 1000),
    prior=st.floats(0.0, 1e5),
)
def test_more_targets_never_move_less_and_the_rate_is_the_most(
    targets: int, more: int, prior: float
) -> None:
    training = TrainingSettings(user_factors_learning_rate=3.0, user_factors_prior=prior)
    few, many = private_rate("user_factors", training, torch.tensor([targets, targets + more]))
    assert 0.0 < float(few) <= float(many) <= 3.0


def test_rows_move_each_at_their_own_rate() -> None:
    rows, gradient = torch.ones(2, 2, 1), torch.full((2, 2, 1), 3.0)
    assert move(rows, gradient, torch.tensor([0.0, 2.0])).flatten().tolist() == [1, 1, -5, -5]
    assert move(rows, gradient, 1.0).flatten().tolist() == [-2.0] * 4


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_users_step_by_hand(decay: float) -> None:
    config = small_config(
        user_factors=True, user_factors_learning_rate=6.0, user_factors_prior=24.0,
        private_learning_rate=0.25, private_weight_decay=decay, holdout=1,
    )  # fmt: skip
    dataset = small_dataset()
    trained = train_alike(config, dataset, [2])

    network = small_network(config, dataset)
    batch = training_batch(dataset, np.array([2]), config)
    assert batch.mask.sum() == 8  # one window, so a rate of 6 * 8 / (8 + 24)
    key = dropout_keys(config.training.seed, 1, dataset.user_keys[[2]], 0)
    losses, _ = user_losses(network(batch, key), batch, LossWeights(balance=0.0))
    losses.sum().backward()
    assert network.user_factors is not None
    assert network.user_factors.grad is not None
    expected = -1.5 * network.user_factors.grad
    assert trained.private["user_factors"].abs().sum() > 0
    torch.testing.assert_close(trained.private["user_factors"], expected, atol=1e-6, rtol=1e-4)


def test_factors_start_at_zero_and_never_leave() -> None:
    config = small_config(user_factors=True)
    trained = train_alike(config, small_dataset(), [0, 1])
    assert "user_factors" in trained.private
    assert not any("user_factors" in name for name in trained.sums.updates)
    network = small_network(config, small_dataset())
    assert network.user_factors is not None
    assert not network.user_factors.any()

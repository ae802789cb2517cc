"""The oracle against the formulas: one user's step by hand, sums, weights, routes, isolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client_app.learners import Trained
from client_app.learners.base import dropout_keys, training_batch
from client_app.learners.serial import SerialLearner
from mrff_model.building import tensors_of
from mrff_model.losses import LossWeights, user_losses
from mrff_model.scopes import expert_of, split_bank
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import (
    cohort_of,
    group_of,
    model_of,
    public_of,
    train,
    train_alike,
)


def test_one_sgd_step_is_minus_the_rate_times_the_gradient() -> None:
    config = small_config(dropout=0.3, local_learning_rate=0.5, private_learning_rate=0.25)
    dataset = small_dataset()
    trained = train_alike(config, dataset, [2])

    network = small_network(config, dataset)
    batch = training_batch(dataset, np.array([2]), config)
    key = dropout_keys(config.training.seed, 1, dataset.user_keys[[2]], 0)
    losses, _ = user_losses(network(batch, key), batch, LossWeights(balance=0.1))
    losses.sum().backward()
    parameters = dict(network.named_parameters())
    for name, update in public_of(trained).items():
        expected = -0.5 * parameters[name].grad.double()
        torch.testing.assert_close(update, expected, atol=1e-6, rtol=1e-4)
    for name, value in trained.private.items():
        expected = parameters[name].detach() - 0.25 * parameters[name].grad
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4)
    gradients = split_bank({n: p.grad for n, p in parameters.items() if ".experts." in n})
    assert group_of(trained).keys() < gradients.keys()
    for name, update in group_of(trained).items():
        expected = -0.5 * gradients[name].double()
        torch.testing.assert_close(update, expected, atol=1e-6, rtol=1e-4)


def test_the_sums_are_those_of_the_users_trained_alone() -> None:
    config, dataset = small_config(dropout=0.2, local_steps=2), small_dataset()
    together = train_alike(config, dataset, [0, 1, 2, 3])
    alone = [train_alike(config, dataset, [user]) for user in range(4)]
    assert public_of(together)
    for name, total in together.sums.updates.items():
        expected = sum(one.sums.updates[name] for one in alone if name in one.sums.updates)
        np.testing.assert_allclose(total, expected, atol=1e-6, rtol=1e-5)
    assert group_of(together).keys() == set().union(*(group_of(one) for one in alone))
    for row, one in enumerate(alone):
        assert all(torch.equal(together.private[n][row], v[0]) for n, v in one.private.items())
    assert together.sums.number("weight") == 4.0
    users = together.sums.numbers["expert_users"]
    assert (users == sum(one.sums.numbers["expert_users"] for one in alone)).all()
    assert users.sum(axis=1).tolist() == [4, 4]


def test_weighting_by_targets_multiplies_a_users_update() -> None:
    dataset = small_dataset()
    uniform, by_targets = (
        train_alike(small_config(user_weighting=weighting), dataset, [1])
        for weighting in ("uniform", "targets")
    )
    weights = (uniform.sums.number("weight"), by_targets.sums.number("weight"))
    assert weights == (1.0, 2.0)  # 4 interactions, 2 held out
    assert by_targets.sums.number("targets") == 2
    for name, update in public_of(uniform).items():
        torch.testing.assert_close(public_of(by_targets)[name], 2 * update, atol=1e-7, rtol=1e-5)
    assert by_targets.sums.numbers["expert_weight"].max() == 2.0


def test_only_chosen_experts_are_uploaded() -> None:
    config = small_config(local_steps=3, local_learning_rate=1.0)
    trained = train_alike(config, small_dataset(), [0, 1])
    weights, group = trained.sums.numbers["expert_weight"], group_of(trained)
    chosen = {(int(layer), int(k)) for layer, k in np.argwhere(weights > 0)}
    assert {expert_of(name) for name in group} == chosen
    assert all(bool(group[name].abs().sum() > 0) for name in group)
    assert (trained.routes >= 0).all()


def test_a_user_without_private_learning_rate_keeps_their_parameters() -> None:
    dataset, config = small_dataset(), small_config(private_learning_rate=0.0)
    trained = train_alike(config, dataset, [0, 1])
    initial = tensors_of(small_network(config, dataset), "private")
    for name, rows in trained.private.items():
        assert torch.equal(rows, initial[name].expand_as(rows))


def test_a_user_whose_training_blows_up_is_left_out_and_the_others_are_not() -> None:
    config, dataset = small_config(), small_dataset()
    network = small_network(config, dataset)
    cohort = cohort_of(dataset, network, np.array([0, 1, 2]), spread=0.0)
    cohort.private["user_bias"][1] = float("nan")
    trained = train(SerialLearner(network, config), config, model_of(network), cohort)
    healthy = train_alike(config, dataset, [0, 2])
    assert trained.kept.tolist() == [True, False, True]
    assert trained.sums.number("weight") == 2.0
    for name, update in public_of(healthy).items():
        torch.testing.assert_close(public_of(trained)[name], update, atol=1e-6, rtol=1e-5)
    assert torch.isnan(trained.private["user_bias"][1]).all()
    assert trained.private["user_embedding"][1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_loads_push_users_away_from_crowded_experts(optimizer: str) -> None:
    config = small_config(
        balance_loss_weight=5.0, local_steps=5, local_optimizer=optimizer, local_learning_rate=0.05,
        num_layers=1,
    )  # fmt: skip
    dataset = small_dataset()
    network = small_network(config, dataset)
    before = train_alike(config, dataset, [0])
    crowded = int(before.routes[0, 0])
    loads = torch.zeros(1, 3)
    loads[0, crowded] = 1.0
    pushed = train_alike(config, dataset, [0], loads=loads)

    def bias(trained: Trained) -> float:
        return float(public_of(trained)["layers.0.gate.linear.bias"][crowded])

    assert bias(pushed) < bias(before)
    assert network.num_experts == 3

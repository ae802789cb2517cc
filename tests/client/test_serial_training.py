"""The oracle against the formulas: one user's step by hand, sums, weights, routes, isolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from client_app.serial_training import train_serially
from client_app.training import Cohort, Start, Trained, dropout_keys, training_batch
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff_model.building import initial_shared, tensors_of
from mrff_model.losses import user_losses
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import expert_of, split_bank
from tests.support.small_data import small_config, small_dataset, small_network


def start_of(network: MRFFNetwork, loads: torch.Tensor | None = None) -> Start:
    public, group = initial_shared(network)
    as_tensors = [
        {n: torch.from_numpy(a.copy()) for n, a in part.items()} for part in (public, group)
    ]
    return Start(1, as_tensors[0], as_tensors[1], loads)


def cohort_of(dataset: Dataset, network: MRFFNetwork, users: list[int]) -> Cohort:
    private = {
        name: value.expand(len(users), *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    return Cohort(dataset, np.array(users), private)


def train(config: RunConfig, dataset: Dataset, users: list[int], **start: object) -> Trained:
    network = small_network(config, dataset)
    return train_serially(
        network,
        replace(start_of(network), **start),  # type: ignore[arg-type]
        cohort_of(dataset, network, users),
        data=config.data,
        training=config.training,
    )


def test_one_sgd_step_is_minus_the_rate_times_the_gradient() -> None:
    config = small_config(dropout=0.3, local_learning_rate=0.5, private_learning_rate=0.25)
    dataset = small_dataset()
    trained = train(config, dataset, [2])

    network = small_network(config, dataset)
    batch = training_batch(dataset, np.array([2]), config.data)
    key = dropout_keys(config.training.seed, 1, dataset.user_keys[[2]], 0)
    losses, _ = user_losses(network(batch, key), batch, balance_weight=0.1, loads=None)
    losses.sum().backward()
    parameters = dict(network.named_parameters())
    for name, update in trained.public.items():
        torch.testing.assert_close(update, -0.5 * parameters[name].grad, atol=1e-6, rtol=1e-4)
    for name, value in trained.private.items():
        expected = parameters[name].detach() - 0.25 * parameters[name].grad
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4)
    gradients = split_bank({n: p.grad for n, p in parameters.items() if ".experts." in n})
    assert trained.group.keys() < gradients.keys()
    for name, update in trained.group.items():
        torch.testing.assert_close(update, -0.5 * gradients[name], atol=1e-6, rtol=1e-4)


def test_the_sums_are_those_of_the_users_trained_alone() -> None:
    config, dataset = small_config(dropout=0.2, local_steps=2), small_dataset()
    together = train(config, dataset, [0, 1, 2, 3])
    alone = [train(config, dataset, [user]) for user in range(4)]
    for name, total in together.public.items():
        expected = sum(one.public[name] for one in alone)
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5)
    for name, total in together.group.items():
        expected = sum(one.group[name] for one in alone if name in one.group)
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5)
    assert together.group.keys() == set().union(*(one.group for one in alone))
    for row, one in enumerate(alone):
        assert all(torch.equal(together.private[n][row], v[0]) for n, v in one.private.items())
    assert together.weight == 4.0
    assert (together.expert_users == sum(one.expert_users for one in alone)).all()
    assert together.expert_users.sum(axis=1).tolist() == [4, 4]


def test_weighting_by_targets_multiplies_a_users_update() -> None:
    dataset = small_dataset()
    uniform = train(small_config(), dataset, [1])
    by_targets = train(small_config(user_weighting="targets"), dataset, [1])
    assert (uniform.weight, by_targets.weight) == (1.0, 2.0)  # 4 interactions, 2 held out
    assert by_targets.num_targets == 2
    for name, update in uniform.public.items():
        torch.testing.assert_close(by_targets.public[name], 2 * update, atol=1e-7, rtol=1e-5)
    assert by_targets.expert_weight.max() == 2.0


def test_only_chosen_experts_are_uploaded() -> None:
    trained = train(small_config(local_steps=3, local_learning_rate=1.0), small_dataset(), [0, 1])
    chosen = {(int(layer), int(k)) for layer, k in np.argwhere(trained.expert_weight > 0)}
    assert {expert_of(name) for name in trained.group} == chosen
    assert all(bool(trained.group[name].abs().sum() > 0) for name in trained.group)
    assert (trained.routes >= 0).all()


def test_a_user_without_private_learning_rate_keeps_his_parameters() -> None:
    dataset, config = small_dataset(), small_config(private_learning_rate=0.0)
    trained = train(config, dataset, [0, 1])
    initial = tensors_of(small_network(config, dataset), "private")
    for name, rows in trained.private.items():
        assert torch.equal(rows, initial[name].expand_as(rows))


def test_a_user_whose_training_blows_up_is_left_out_and_the_others_are_not() -> None:
    config, dataset = small_config(), small_dataset()
    network = small_network(config, dataset)
    start, cohort = start_of(network), cohort_of(dataset, network, [0, 1, 2])
    cohort.private["user_bias"][1] = float("nan")
    settings = {"data": config.data, "training": config.training}
    trained = train_serially(network, start, cohort, **settings)
    healthy = train(config, dataset, [0, 2])
    assert trained.kept.tolist() == [True, False, True]
    assert trained.weight == 2.0
    for name, update in healthy.public.items():
        torch.testing.assert_close(trained.public[name], update, atol=1e-6, rtol=1e-5)
    assert torch.isnan(trained.private["user_bias"][1]).all()
    assert trained.private["user_embedding"][1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_loads_push_users_away_from_crowded_experts(optimizer: str) -> None:
    config = small_config(
        balance_weight=5.0, local_steps=5, local_optimizer=optimizer, local_learning_rate=0.05,
        num_layers=1,
    )  # fmt: skip
    dataset = small_dataset()
    network = small_network(config, dataset)
    before = train(config, dataset, [0])
    crowded = int(before.routes[0, 0])
    loads = torch.zeros(1, 3)
    loads[0, crowded] = 1.0
    pushed = train(config, dataset, [0], loads=loads)
    name = "layers.0.gate.linear.bias"
    assert pushed.public[name][crowded] < before.public[name][crowded]
    assert network.num_experts == 3

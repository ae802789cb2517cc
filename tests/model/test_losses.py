"""The loss by hand: mean BCE over real targets, balance loss from the previous round's loads."""

import math

import torch

from mrff_model.batch import Batch, Output
from mrff_model.losses import LossWeights, user_losses


def one_user() -> tuple[Output, Batch]:
    logits = torch.tensor([[[0.0, 2.0, 50.0]]])
    labels = torch.tensor([[[1.0, 0.0, 0.0]]])
    mask = torch.tensor([[[True, True, False]]])
    zeros = torch.zeros(1, 1, 3, dtype=torch.int64)
    batch = Batch(zeros, zeros, zeros, labels, mask, mask, {})
    routes = torch.tensor([[1, 0]])
    nothing = torch.zeros_like(logits)
    return Output(logits, nothing, nothing[:, :0], routes, torch.tensor([[0.5, 0.8]])), batch


def test_the_task_loss_is_the_mean_over_real_targets() -> None:
    losses, sums = user_losses(*one_user(), LossWeights(balance=0.1))
    expected = math.log(2.0) + math.log(1.0 + math.exp(2.0))
    assert math.isclose(sums.item(), expected, rel_tol=1e-6)
    assert math.isclose(losses.item(), expected / 2, rel_tol=1e-6)


def test_the_balance_loss_is_alpha_times_experts_times_load_times_probability() -> None:
    loads = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    plain, _ = user_losses(*one_user(), LossWeights(balance=0.0), loads)
    losses, sums = user_losses(*one_user(), LossWeights(balance=0.1), loads)
    # layer 0: expert 1 with load .75 and probability .5; layer 1: expert 0, load 1, probability .8
    assert math.isclose((losses - plain).item(), 0.1 * 2 * (0.75 * 0.5 + 1.0 * 0.8), rel_tol=1e-5)
    assert sums.item() == user_losses(*one_user(), LossWeights(balance=0.0))[1].item()


def test_gates_that_follow_cost_the_surprise_of_the_chosen_groups_per_target() -> None:
    plain, _ = user_losses(*one_user(), LossWeights(balance=0.0))
    losses, _ = user_losses(*one_user(), LossWeights(balance=0.0, gates_follow=True))
    expected = -(math.log(0.5) + math.log(0.8)) / 2  # two layers, two targets
    assert math.isclose((losses - plain).item(), expected, rel_tol=1e-5)

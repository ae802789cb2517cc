"""Rounded matrix products: where they were asked for, for training alone, not in private modes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from client_app.devices import multiplying
from client_app.learners import Trained
from client_app.learners.base import training_batch, with_drawn_items
from client_app.learners.outputs import outputs
from mrff.config import ConfigError, RunConfig
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import (
    EVERYBODY,
    SIZES,
    cohort_of,
    learner_named,
    model_of,
    network_of,
    public_of,
    train,
)

PRODUCTS = torch.backends.cuda.matmul


def trained_by(precision: str, device: str, **changes: Any) -> Trained:
    config, dataset = small_config(precision=precision, **changes), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)
    learner = learner_named("cohort", deepcopy(network).to(device), config)
    return train(learner, config, model, cohort)


def test_tf32_is_nothing_to_a_cpu() -> None:
    exact, asked = public_of(trained_by("fp32", "cpu")), public_of(trained_by("tf32", "cpu"))
    assert all(torch.equal(update, asked[name]) for name, update in exact.items())


def test_what_is_rounded_ends_with_the_block() -> None:
    """After an error as well; and on a CPU it does not begin."""
    before = PRODUCTS.fp32_precision
    with multiplying(torch.device("cuda"), "tf32"):
        assert PRODUCTS.fp32_precision == "tf32"
    with pytest.raises(RuntimeError), multiplying(torch.device("cuda"), "tf32"):
        raise RuntimeError
    assert PRODUCTS.fp32_precision == before
    with multiplying(torch.device("cpu"), "tf32"), multiplying(torch.device("cuda"), "fp32"):
        assert PRODUCTS.fp32_precision == before


def test_bf16_ends_with_the_block() -> None:
    with multiplying(torch.device("cpu"), "bf16"):
        assert torch.is_autocast_enabled("cpu")
    with pytest.raises(RuntimeError), multiplying(torch.device("cpu"), "bf16"):
        raise RuntimeError
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("mode", ["central-user", "local-dp-sgd", "laplace"])
def test_private_modes_refuse_rounded_products(mode: str, precision: str) -> None:
    """A product is rounded by who is computed with: one user more could move the sum by over C."""
    with pytest.raises(ConfigError, match=f"{precision} cannot go with privacy.mode={mode}"):
        RunConfig.from_flat({"training.precision": precision, "privacy.mode": mode})


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("precision", "device", "most"),
    [
        ("bf16", "cpu", 0.2),
        pytest.param("tf32", "cuda", 0.01, marks=pytest.mark.gpu),
        pytest.param("bf16", "cuda", 0.2, marks=pytest.mark.gpu),
    ],
)
def test_updates_are_nearly_the_same(precision: str, device: str, most: float, steps: int) -> None:
    """And not the same: something was rounded. Seven users' gradients cancel in their sum."""
    exact, rounded = (
        torch.cat([u.double().flatten() for u in public_of(trained).values()])
        for trained in (trained_by(p, device, local_steps=steps) for p in ("fp32", precision))
    )
    assert 0.0 < ((exact - rounded).norm() / exact.norm()).item() < most


FEW: dict[str, Any] = {"full_softmax_items": 1, "drawn_items": 4}


@pytest.mark.parametrize("few", [{}, FEW])
def test_what_bf16_trains_is_kept_in_float32(few: dict[str, Any]) -> None:
    """Of both heads, with all items compared or a few."""
    trained = trained_by("bf16", "cpu", objective="both", local_steps=2, **few)
    assert {values.dtype for values in trained.private.values()} == {torch.float32}


@pytest.mark.parametrize("few", [{}, FEW])
def test_losses_are_float32_where_products_are_not(few: dict[str, Any]) -> None:
    """Else counts of targets would end at 256."""
    config, dataset = small_config(objective="both", **few), small_dataset(SIZES)
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    batch = with_drawn_items(training_batch(dataset, EVERYBODY, config), cohort, config, 1)
    with multiplying(torch.device("cpu"), "bf16"):
        output = outputs(network, cohort.private, batch)
    assert {output.logits.dtype, output.surprise.dtype} == {torch.float32}

"""Rounded matrix products: on a GPU alone, for training alone, and not in private modes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from client_app.devices import multiplying
from client_app.learners import Trained
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


def test_a_cpu_computes_as_ever() -> None:
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


@pytest.mark.parametrize("mode", ["central-user", "local-dp-sgd", "laplace"])
def test_private_modes_refuse_rounded_products(mode: str) -> None:
    """A product is rounded by who is computed with: one user more could move the sum by over C."""
    with pytest.raises(ConfigError, match=f"precision=tf32 cannot go with privacy.mode={mode}"):
        RunConfig.from_flat({"training.precision": "tf32", "privacy.mode": mode})


@pytest.mark.gpu
@pytest.mark.parametrize("steps", [1, 3])
def test_on_a_gpu_updates_are_nearly_the_same(steps: int) -> None:
    """Within a percent of their norm, and not the same: something was rounded."""
    exact, rounded = (
        torch.cat([u.double().flatten() for u in public_of(trained).values()])
        for trained in (trained_by(p, "cuda", local_steps=steps) for p in ("fp32", "tf32"))
    )
    assert 0.0 < ((exact - rounded).norm() / exact.norm()).item() < 0.01

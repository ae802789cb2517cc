from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from strategies.server_optimizer import (
    Adam,
    Average,
    Momentum,
    apply_means,
    flatten_states,
    make_server_optimizer,
    unflatten_states,
)


def test_momentum_worked_by_hand() -> None:
    optimizer = Momentum(learning_rate=0.5, momentum=0.9)
    value, state = optimizer.step(np.float32([0.0]), np.array([2.0]), {})
    np.testing.assert_allclose(value, [1.0])
    value, state = optimizer.step(value, np.array([1.0]), state)  # v = 0.9 * 2 + 1 = 2.8
    np.testing.assert_allclose(value, [2.4])


def test_first_adam_step_is_the_learning_rate_times_the_sign() -> None:
    value, state = Adam(0.1, 0.9, 0.99, 1e-12).step(np.float32([0, 0]), np.array([3.0, -0.2]), {})
    np.testing.assert_allclose(value, [0.1, -0.1], rtol=1e-6)
    assert state["step"] == 1


def test_adam_is_torch_adam_on_the_negative_mean() -> None:
    rng = np.random.default_rng(0)
    parameter = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.Adam([parameter], lr=0.02, betas=(0.8, 0.95), eps=1e-6)
    optimizer, value, state = Adam(0.02, 0.8, 0.95, 1e-6), np.zeros(4, np.float32), {}
    for _ in range(20):
        mean = rng.normal(size=4)
        parameter.grad = torch.from_numpy(-mean)
        reference.step()
        value, state = optimizer.step(value, mean, state)
    np.testing.assert_allclose(value, parameter.detach().numpy(), atol=1e-6)


def test_the_factor_scales_a_blocks_step_and_no_other() -> None:
    blocks = {"a": np.float32([0.0]), "layers.0.gate.linear.bias": np.float32([0.0])}
    means = {name: np.array([1.0]) for name in blocks}
    for optimizer in (Average(1.0), Momentum(1.0, 0.9), Adam(1.0, 0.9, 0.99, 1e-12)):
        moved, _ = apply_means(
            optimizer, blocks, means, {}, factor_of=lambda name: 0.1 if "gate" in name else 1.0
        )
        np.testing.assert_allclose([*moved.values()], [[1.0], [0.1]], rtol=1e-6)


def test_blocks_without_a_mean_are_handed_on() -> None:
    blocks = {"a": np.float32([1]), "b": np.float32([2])}
    moved, states = apply_means(Average(1.0), blocks, {"a": np.array([1.0])}, {})
    assert moved["b"] is blocks["b"]
    assert moved["a"].tolist() == [2.0]
    assert blocks["a"].tolist() == [1.0]
    assert states == {}


def test_a_non_finite_step_is_refused() -> None:
    blocks = {"a": np.float32([3e38])}
    with pytest.raises(FloatingPointError, match="array a would become non-finite"):
        apply_means(Average(1e3), blocks, {"a": np.array([3e38])}, {})


def test_states_survive_flattening() -> None:
    states = {"layers.0.experts.1.up_weight": {"exp_avg": np.ones(2), "step": np.array(3.0)}}
    flat = flatten_states(states)
    assert list(flat) == [
        "layers.0.experts.1.up_weight/exp_avg",
        "layers.0.experts.1.up_weight/step",
    ]
    restored = unflatten_states(flat)
    assert restored.keys() == states.keys()
    np.testing.assert_array_equal(restored["layers.0.experts.1.up_weight"]["exp_avg"], np.ones(2))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'lion'"):
        make_server_optimizer("lion", learning_rate=1, momentum=0.9, beta2=0.99, epsilon=1e-8)


def test_a_step_does_without_the_compiler_of_pytorch() -> None:
    """Its import takes longer than all else that a server does before round 1."""
    script = (
        "import sys, numpy as np\n"
        "from strategies.server_optimizer import Adam, Average, Momentum\n"
        "for optimizer in (Average(1.0), Momentum(1.0, 0.9), Adam(1.0, 0.9, 0.99, 1e-8)):\n"
        "    optimizer.step(np.float32([0.0]), np.array([1.0]), {})\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""Gates that follow the loads: worked numbers, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.balancing import balanced_gates, gate_intercepts

FIRST, SECOND = "layers.0.gate.linear.bias", "layers.1.gate.linear.bias"


def public(*intercepts: list[float]) -> dict[str, np.ndarray]:
    arrays = {"head.down.bias": np.ones(1, dtype=np.float32)}
    for layer, values in enumerate(intercepts):
        arrays[f"layers.{layer}.gate.linear.bias"] = np.array(values, dtype=np.float32)
        arrays[f"layers.{layer}.gate.linear.weight"] = np.ones((2, 3), dtype=np.float32)
    return arrays


def test_an_empty_expert_gains_a_step_and_one_with_half_an_equal_share_nothing() -> None:
    before = public([0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    # Four experts: an equal share is 0.25, half of it 0.125, a quarter 0.0625.
    loads = [1.0, 0.0, 0.0, 0.0, 0.5, 0.3125, 0.125, 0.0625]
    after = balanced_gates(before, loads, 0.1, trained=before)
    np.testing.assert_allclose(after[FIRST], [0.5, 0.1, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(after[SECOND], [0.0, 0.0, 0.0, 1.05], rtol=1e-6)
    assert after[FIRST].dtype == np.float32
    assert before[FIRST][0] == 0.5  # arrays are replaced, never written into
    for name in before.keys() - {FIRST, SECOND}:
        assert after[name] is before[name]


@pytest.mark.parametrize(("loads", "step"), [([], 0.1), ([1.0, 0.0], 0.0)])
def test_nothing_moves_while_loads_are_unknown_or_the_step_is_zero(
    loads: list[float], step: float
) -> None:
    before = public([0.3, 0.1])
    assert balanced_gates(before, loads, step, trained=before) is before


def test_one_expert_and_loads_that_are_enough_move_nothing() -> None:
    for intercepts, loads in (([0.3], [1.0]), ([0.3, 0.1], [0.75, 0.25])):
        before = public(intercepts)
        after = balanced_gates(before, loads, 0.1, trained=before)
        assert after[FIRST].tolist() == pytest.approx(intercepts)


def test_copies_of_a_network_and_private_gates_have_no_intercepts_to_move() -> None:
    before = {"clusters.1.layers.0.gate.linear.bias": np.zeros(2, dtype=np.float32)}
    assert gate_intercepts(before) == []
    assert balanced_gates(before, [0.1, 0.2, 0.3, 0.4], 0.1, trained=before) is before


def test_a_gate_that_nobody_trained_stays() -> None:
    before = public([0.0, 0.0], [0.0, 0.0])
    after = balanced_gates(before, [1.0, 0.0, 1.0, 0.0], 0.1, trained=[SECOND])
    assert after[FIRST] is before[FIRST]
    assert after[SECOND].tolist() == pytest.approx([0.0, 0.1])


@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=8), st.floats(1e-4, 1.0))
def test_nobody_loses_and_the_less_loaded_gains_more(users: list[float], step: float) -> None:
    loads = [count / (sum(users) or 1.0) for count in users]
    before = public([0.0] * len(users))
    change = balanced_gates(before, loads, step, trained=before)[FIRST]
    assert 0.0 <= change.min() <= change.max() <= step * (1 + 1e-6)
    order = np.argsort(loads, kind="stable")
    assert (np.diff(change[order]) <= 1e-6).all()

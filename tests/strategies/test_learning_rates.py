"""Factors of the server's learning rate, with numbers one can check by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.learning_rates import LearningRates


def test_the_cosine_at_its_beginning_middle_and_end() -> None:
    rates = LearningRates(decay_rounds=10, final_factor=0.2)
    assert rates.factor("head.up.weight", 1) == 1.0
    assert rates.factor("head.up.weight", 6) == pytest.approx(0.6)  # half way from 1 to 0.2
    assert rates.factor("head.up.weight", 11) == pytest.approx(0.2)
    assert rates.factor("head.up.weight", 500) == pytest.approx(0.2)


def test_gates_are_slower_by_their_factor_in_every_round() -> None:
    rates = LearningRates(gate_factor=0.1, decay_rounds=4, final_factor=0.0)
    for number in range(1, 7):
        gate, rest = (rates.factor(n, number) for n in ("layers.1.gate.weight", "layers.1.x"))
        assert gate == pytest.approx(0.1 * rest)


def test_item_biases_have_a_factor_of_their_own_in_every_copy_of_the_network() -> None:
    rates = LearningRates(item_bias_factor=3.0, decay_rounds=10, final_factor=0.2)
    for name in ("item_bias.weight", "clusters.2.item_bias.weight"):
        assert rates.factor(name, 6) == pytest.approx(1.8)  # 3 times 0.6
    assert rates.factor("head.down.bias", 6) == pytest.approx(0.6)


def test_what_comes_before_the_heads_has_a_factor_of_its_own_and_gates_have_both() -> None:
    rates = LearningRates(gate_factor=0.5, body_factor=0.1, decay_rounds=10, final_factor=0.2)
    for name in ("item_features.tables.id.weight", "clusters.0.layers.1.experts.0.up_weight"):
        assert rates.factor(name, 6) == pytest.approx(0.06)  # a tenth of 0.6
    assert rates.factor("layers.0.gate.linear.weight", 6) == pytest.approx(0.03)
    for name in ("head.up.weight", "item_bias.weight", "next_head.query.weight"):
        assert rates.factor(name, 6) == pytest.approx(0.6)


def test_without_decay_the_rate_stays() -> None:
    assert LearningRates().factor("head.up.weight", 1000) == 1.0


@given(st.integers(1, 300), st.integers(1, 200), st.floats(0.0, 1.0))
def test_it_never_rises_and_stays_within_its_limits(number: int, decay: int, final: float) -> None:
    rates = LearningRates(decay_rounds=decay, final_factor=final)
    now, then = (rates.factor("x", number + later) for later in (0, 1))
    assert 1.0 + 1e-12 >= now >= then - 1e-12 >= final - 2e-12

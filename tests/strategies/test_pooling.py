from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mrff.privacy.mechanisms.base import Means
from strategies.pooling import pool_experts
from strategies.server_optimizer import Average
from tests.support.replies import PUBLIC, User, expert, message, strategy_of, train_content

numbers = st.floats(-100.0, 100.0)
weight_lists = st.lists(st.floats(0.125, 8.0), min_size=3, max_size=3)


def means_of(values: list[float]) -> Means:
    """One number per expert of layer 1."""
    return {f"layers.1.experts.{k}.up_bias": np.array([value]) for k, value in enumerate(values)}


def weights_of(weights: list[float]) -> np.ndarray:
    return np.array([[1.0, 1.0, 1.0], weights])  # layer 0 has no means


def test_a_round_worked_by_hand() -> None:
    """Weights 1 and 3 on expert 0, weight 4 on expert 1, pooling 0.25."""
    strategy = strategy_of(Average(1.0), pooling=0.25)
    users = [
        User(1.0, np.array([1.0, 0, 0]), 0, np.array([4.0, 0])),
        User(3.0, np.array([1.0, 2, 0]), 0, np.array([0, 4.0])),
        User(4.0, np.array([0, 0, 2.0]), 1, np.array([1.0, 1.0])),
    ]
    strategy.aggregate_train(1, [message(train_content(users))])

    # means [1, 3] and [1, 1], average (4 [1, 3] + 4 [1, 1]) / 8 = [1, 2]
    # expert 0: 0.75 [1, 3] + 0.25 [1, 2] = [1, 2.75]; expert 1: [1, 1.25]
    np.testing.assert_array_equal(strategy.state.group[expert(0)], np.float32([11.0, 3.25]))
    np.testing.assert_array_equal(strategy.state.group[expert(1)], np.float32([21.0, 1.75]))
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], np.float32([1.5, 2.75, 4.0]))


def test_an_expert_nobody_chose_follows_the_average() -> None:
    pooled = pool_experts(
        {"layers.0.experts.0.up_bias": np.array([6.0]), "layers.0.experts.2.up_bias": np.ones(1)},
        np.array([[1.0, 0.0, 4.0]]),
        0.5,
    )
    # average (1 * 6 + 4 * 1) / 5 = 2
    assert {name: array.tolist() for name, array in pooled.items()} == {
        "layers.0.experts.0.up_bias": [4.0],
        "layers.0.experts.1.up_bias": [2.0],
        "layers.0.experts.2.up_bias": [1.5],
    }


def test_without_experts_among_the_means_nothing_is_added() -> None:
    means = {PUBLIC: np.ones(3)}
    assert pool_experts(means, np.zeros((1, 4)), 0.5) == means


def test_copies_of_the_whole_network_are_not_experts() -> None:
    means = {"clusters.0.head.up.bias": np.ones(1), "clusters.1.head.up.bias": np.zeros(1)}
    pooled = pool_experts(means, np.ones((1, 2)), 1.0)
    assert pooled["clusters.1.head.up.bias"].tolist() == [0.0]


@given(st.lists(numbers, min_size=3, max_size=3), weight_lists)
def test_the_ends_of_the_scale(values: list[float], weights: list[float]) -> None:
    means, behind = means_of(values), weights_of(weights)
    assert pool_experts(means, behind, 0.0) is means
    everybody = float(np.average(values, weights=weights))
    for array in pool_experts(means, behind, 1.0).values():
        assert array.item() == pytest.approx(everybody, abs=1e-10)


@given(st.lists(numbers, min_size=3, max_size=3), weight_lists, st.floats(0.0, 1.0))
def test_the_layers_mean_stays_and_distances_shrink(
    values: list[float], weights: list[float], pooling: float
) -> None:
    pooled = pool_experts(means_of(values), weights_of(weights), pooling)
    after = [array.item() for array in pooled.values()]
    assert np.average(after, weights=weights) == pytest.approx(
        np.average(values, weights=weights), abs=1e-10
    )
    expected = (1.0 - pooling) * np.subtract.outer(values, values)
    np.testing.assert_allclose(np.subtract.outer(after, after), expected, atol=1e-10)


@given(st.lists(numbers, min_size=3, max_size=3), weight_lists, st.permutations(range(3)))
def test_the_order_of_experts_is_a_name_only(
    values: list[float], weights: list[float], order: list[int]
) -> None:
    assume(order != [0, 1, 2])
    straight = list(pool_experts(means_of(values), weights_of(weights), 0.5).values())
    turned = pool_experts(
        means_of([values[k] for k in order]), weights_of([weights[k] for k in order]), 0.5
    )
    for array, k in zip(turned.values(), order, strict=True):
        np.testing.assert_allclose(array, straight[k], atol=1e-10)

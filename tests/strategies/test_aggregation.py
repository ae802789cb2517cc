from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.server_optimizer import Adam, Average, Momentum
from tests.support.replies import (
    PUBLIC,
    User,
    expert,
    message,
    new_state,
    strategy_of,
    train,
    train_content,
)


def test_means_worked_by_hand() -> None:
    """Weights 1 and 3 on expert 0, weight 4 on expert 1; two nodes."""
    strategy = strategy_of(Average(1.0))
    first = [User(1.0, np.array([1.0, 0, 0]), 0, np.array([4.0, 0]), loss=1.0)]
    second = [
        User(3.0, np.array([1.0, 2, 0]), 0, np.array([0, 4.0]), loss=0.25),
        User(4.0, np.array([0, 0, 2.0]), 1, np.array([1.0, 1.0]), loss=0.25),
    ]
    metrics = train(strategy, first, second).train_metrics_clientapp[1]

    # public: ([1,0,0] + 3 [1,2,0] + 4 [0,0,2]) / 8 = [0.5, 0.75, 1]
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], np.float32([1.5, 2.75, 4.0]))
    # expert 0: ([4,0] + 3 [0,4]) / 4 = [1, 3]; expert 1: [1, 1]
    np.testing.assert_array_equal(strategy.state.group[expert(0)], np.float32([11.0, 3.5]))
    np.testing.assert_array_equal(strategy.state.group[expert(1)], np.float32([21.0, 1.5]))
    assert strategy.state.loads == [2 / 3, 1 / 3]
    assert metrics["train-loss"] == (2 * 1.0 + 2 * 0.25 + 2 * 0.25) / 6
    assert strategy.state.round == 1


def test_a_round_without_users_changes_nothing_but_its_number() -> None:
    strategy = strategy_of(Adam(0.1, 0.9, 0.99, 1e-8))
    strategy.state.loads = [0.25, 0.75]
    train(strategy, [])
    before = new_state()
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], before.public[PUBLIC])
    assert strategy.state.optimizer == {}
    assert strategy.state.loads == [0.25, 0.75]
    assert strategy.state.round == 1


small = st.floats(-2.0, 2.0, width=32)
user_strategy = st.builds(
    lambda weight, public, k, group: User(weight, np.array(public), k, np.array(group)),
    st.floats(0.25, 4.0, width=32),
    st.lists(small, min_size=3, max_size=3),
    st.integers(0, 1),
    st.lists(small, min_size=2, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(user_strategy, min_size=1, max_size=12))
def test_grouping_of_users_and_order_of_replies_do_not_matter(data, users) -> None:
    """One node for all users against any other layout, in any order, three rounds of Adam."""
    together = strategy_of(Adam(0.05, 0.9, 0.99, 1e-3))
    spread = strategy_of(Adam(0.05, 0.9, 0.99, 1e-3))
    for server_round in (1, 2, 3):
        nodes = data.draw(st.lists(st.integers(0, 4), min_size=len(users), max_size=len(users)))
        layout: dict[int, list[User]] = {}
        for node, user in zip(nodes, users, strict=True):
            layout.setdefault(node, []).append(user)
        order = data.draw(st.permutations(sorted(layout)))
        replies = [message(train_content(layout[node], server_round), node + 2) for node in order]
        together.aggregate_train(server_round, [message(train_content(users, server_round))])
        spread.aggregate_train(server_round, replies)
    for name, value in {**together.state.public, **together.state.group}.items():
        other = {**spread.state.public, **spread.state.group}[name]
        np.testing.assert_allclose(other, value, atol=1e-5)
    np.testing.assert_allclose(spread.state.loads, together.state.loads, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(user_strategy, min_size=1, max_size=5),
    st.sampled_from([Average(0.7), Momentum(0.5, 0.9), Adam(0.05, 0.9, 0.99, 1e-8)]),
)
def test_an_expert_without_users_stays_bit_identical(users, optimizer) -> None:
    """Value and optimiser state, after a round in which it had moved."""
    strategy = strategy_of(optimizer)
    both = [User(1.0, np.ones(3), k, np.ones(2)) for k in (0, 1)]
    strategy.aggregate_train(1, [message(train_content(both))])
    value = strategy.state.group[expert(1)].tobytes()
    moments = {s: a.tobytes() for s, a in strategy.state.optimizer.get(expert(1), {}).items()}

    only_first = [User(u.weight, u.public, 0, u.group) for u in users]
    strategy.aggregate_train(2, [message(train_content(only_first, 2))])

    assert strategy.state.group[expert(1)].tobytes() == value
    after = strategy.state.optimizer.get(expert(1), {})
    assert {slot: array.tobytes() for slot, array in after.items()} == moments

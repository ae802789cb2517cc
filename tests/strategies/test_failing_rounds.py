"""A round that cannot count leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest

from mrff.wire.aggregation import RoundFailedError
from strategies.schedule import Conduct
from strategies.server_optimizer import Average
from tests.support.replies import (
    PUBLIC,
    USERS,
    User,
    message,
    new_state,
    strategy_of,
    train,
    train_content,
)


def test_too_few_good_replies_fail_the_round_and_leave_the_model() -> None:
    strategy = strategy_of(Average(1.0), conduct=Conduct(min_reply_fraction=0.5))
    bad = train_content(USERS)
    bad["numbers"]["round"] = 9
    replies = [message(train_content(USERS), 5), message(bad, 6), message(bad, 7)]
    with pytest.raises(
        RoundFailedError, match=r"1 of 3 nodes .* node 6 and 1 more: it answers round 9"
    ):
        strategy.aggregate_train(1, replies)
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], new_state().public[PUBLIC])
    assert strategy.state.round == 0


def test_a_round_nobody_answers_fails_whatever_the_fraction() -> None:
    strategy = strategy_of(Average(1.0), conduct=Conduct(min_reply_fraction=0.0))
    with pytest.raises(RoundFailedError, match="0 of 0 nodes"):
        strategy.aggregate_train(1, [])


def test_an_update_that_explodes_fails_the_round_and_leaves_the_model() -> None:
    strategy = strategy_of(Average(1e30))
    with pytest.raises(RoundFailedError, match="would become non-finite"):
        train(strategy, [User(1.0, np.full(3, 3e38), 0, np.ones(2))])
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], new_state().public[PUBLIC])
    assert strategy.state.round == 0

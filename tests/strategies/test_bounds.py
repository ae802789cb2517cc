from __future__ import annotations

import numpy as np
import pytest

from strategies.bounds import Bounds
from strategies.replies import BadReplyError, TrainReply, read_train_reply
from tests.support.replies import User, expected, train_content


def reply(*users: User) -> TrainReply:
    return read_train_reply(train_content(list(users)), expected(), 1)


def user(public: float, group: float, *, weight: float = 1.0, expert: int = 0) -> User:
    """A user whose updates have these norms."""
    return User(weight, np.array([public, 0.0, 0.0]), expert, np.array([0.0, group]))


def test_the_norm_is_that_of_the_mean_and_not_of_the_sum() -> None:
    many = [user(3.0, 1.0) for _ in range(50)]
    Bounds(3.01).check(reply(*many))
    with pytest.raises(BadReplyError, match=r"public: the mean update has norm 3, more than .*2.9"):
        Bounds(2.9).check(reply(*many))


def test_every_expert_has_the_bound_for_itself() -> None:
    users = user(0.1, 1.0, expert=0), user(0.1, 9.0, expert=1)
    Bounds(9.01).check(reply(*users))
    with pytest.raises(BadReplyError, match="expert 1 of layer 0: the mean update has norm 9"):
        Bounds(8.0).check(reply(*users))


def test_no_norm_overflows() -> None:
    with pytest.raises(BadReplyError, match="max-update-norm=1000"):
        Bounds(1000.0).check(reply(user(3e38, 1.0)))


def test_zero_bounds_nothing_but_the_weight() -> None:
    Bounds().check(reply(user(3e38, 3e38)))
    content = train_content([user(1.0, 1.0, weight=1e12)])
    with pytest.raises(BadReplyError, match=r"weight 1e\+12 is more than 1 users"):
        Bounds().check(read_train_reply(content, expected(), 1))


def test_a_node_without_users_keeps_to_every_bound() -> None:
    Bounds(1e-9).check(reply())

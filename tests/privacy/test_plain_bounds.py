"""Bounds on what one node can do to a plain round: its weight per user, the size of its update."""

from __future__ import annotations

import numpy as np
import pytest

from mrff.privacy.mechanisms.none import PlainServer
from mrff.sums import BadReplyError, CohortSums
from mrff.wire.replies import Reply
from tests.support.replies import User, expected, train_content


def reply(*users: User) -> CohortSums:
    return Reply.read(train_content(list(users)), 1, expected()).sums


def check(sums: CohortSums, bound: float = 0.0) -> None:
    PlainServer(bound).check(sums, expected())


def user(public: float, group: float, *, weight: float = 1.0, expert: int = 0) -> User:
    """A user whose updates have these norms."""
    return User(weight, np.array([public, 0.0, 0.0]), expert, np.array([0.0, group]))


def test_the_norm_is_that_of_the_mean_and_not_of_the_sum() -> None:
    many = [user(3.0, 1.0) for _ in range(50)]
    check(reply(*many), 3.01)
    with pytest.raises(BadReplyError, match=r"public: the mean update has norm 3, more than .*2.9"):
        check(reply(*many), 2.9)


def test_every_expert_has_the_bound_for_itself() -> None:
    users = user(0.1, 1.0, expert=0), user(0.1, 9.0, expert=1)
    check(reply(*users), 9.01)
    with pytest.raises(BadReplyError, match="expert 1 of layer 0: the mean update has norm 9"):
        check(reply(*users), 8.0)


def test_no_norm_overflows() -> None:
    with pytest.raises(BadReplyError, match="max-update-norm=1000"):
        check(reply(user(3e38, 1.0)), 1000.0)


def test_zero_bounds_nothing_but_the_weight() -> None:
    check(reply(user(3e38, 3e38)))
    with pytest.raises(BadReplyError, match=r"weight 1e\+12 is more than 1 users"):
        check(reply(user(1.0, 1.0, weight=1e12)))


def test_a_node_without_users_keeps_to_every_bound() -> None:
    check(reply(), 1e-9)

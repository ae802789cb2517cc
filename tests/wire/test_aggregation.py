"""Aggregation ``plain``: what is collected of a phase's replies, and when that is too little."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, Message

from mrff.sums import CohortSums, Expected
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.aggregation.plain import PlainSums
from mrff.wire.replies import Reply
from tests.support.replies import PUBLIC, USERS, User, asked, expert, message, train_content

PLAIN = PlainSums()


def test_what_nodes_submit_is_collected_as_its_sum() -> None:
    sums = [
        CohortSums({PUBLIC: np.full(3, 0.5 + node, np.float32)}, {"users": np.array(node + 1)})
        for node in range(3)
    ]
    contents = [Reply(4, of_node).content() for of_node in sums]
    quantities = {"users": asked().expected.numbers["users"]}
    anything = replace(
        asked(4), expected=Expected({PUBLIC: (3,)}, quantities), check=lambda sums: None
    )
    total, traffic = PLAIN.collect(
        [message(content, node + 2) for node, content in enumerate(contents)], anything
    )
    np.testing.assert_array_equal(total.updates[PUBLIC], np.full(3, 4.5))
    assert total.updates[PUBLIC].dtype == np.float64
    assert total.number("users") == 6
    assert (traffic.sent, traffic.replies, traffic.rejected, traffic.missing) == (3, 3, [], [])
    assert traffic.bytes_up > 0


def test_an_expert_that_one_node_alone_chose_is_in_the_sum() -> None:
    other = [User(2.0, np.zeros(3), 1, np.ones(2))]
    total, _ = PLAIN.collect([message(train_content(u)) for u in (USERS, other)], asked())
    np.testing.assert_array_equal(total.updates[expert(0)], [2.0, 2.0])
    np.testing.assert_array_equal(total.updates[expert(1)], [2.0, 2.0])
    np.testing.assert_array_equal(total.numbers["expert_users"], [[2, 1]])


FLOWERS = "\nException ClientAppException occurred. Message: "


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("no data\n here", "no data here"),
        ("", "error without a reason"),
        # As a deployed node's process gives it, and as the simulation does.
        ("<class 'mrff.config.ConfigError'>:<'1 > 0 is\nwrong'>", "1 > 0 is wrong"),
        (f"<class 'flwr.ClientAppException'>:<'{FLOWERS}a <b> 'c''>", "a <b> 'c'"),
        (f"<class 'flwr.ClientAppException'>:<'{FLOWERS}{FLOWERS}'>", ""),
        (f"<class 'x'>:<'{'a' * 900} b c'>", f"{'a' * 900} b c"),
        ("a" * 5000, "a" * 1000 + "..."),
    ],
)
def test_an_error_reply_is_a_rejection_with_its_reason(said: str, reason: str) -> None:
    request = message(train_content([]), 8)
    error = Message(Error(code=2, reason=said), reply_to=request)
    _, traffic = PLAIN.collect([error, message(train_content(USERS), 9)], asked())
    assert traffic.rejected[0].reason == reason


def test_a_reason_that_many_nodes_give_is_told_once() -> None:
    errors = [
        Message(Error(code=2, reason=said), reply_to=message(train_content([]), node))
        for node, said in enumerate(["no data", "no data", "no memory"])
    ]
    with pytest.raises(RoundFailedError, match=r"; node 1 and 1 more: no data; node 1: no memory$"):
        PLAIN.collect(errors, asked())


def test_too_few_good_replies_fail_the_phase_with_their_reasons() -> None:
    bad = train_content(USERS)
    bad["numbers"]["round"] = 9
    replies = [message(train_content(USERS), 5), message(bad, 6), message(bad, 7)]
    with pytest.raises(
        RoundFailedError, match=r"1 of 3 nodes .* node 6 and 1 more: it answers round 9"
    ):
        PLAIN.collect(replies, asked())
    total, _ = PLAIN.collect(replies, asked(min_fraction=0.3))
    assert total.number("users") == 2


def test_a_phase_nobody_answers_fails_whatever_the_fraction() -> None:
    with pytest.raises(RoundFailedError, match="0 of 0 nodes"):
        PLAIN.collect([], asked(min_fraction=0.0))


def test_memory_does_not_grow_with_the_number_of_replies() -> None:
    """Each reply is added and dropped: 400 of them peak where 20 do."""
    wanted = asked()
    shapes = {**wanted.expected.updates, PUBLIC: (50_000,)}
    wanted = replace(wanted, expected=replace(wanted.expected, updates=shapes))
    user = [User(1.0, np.ones(50_000), 0, np.ones(2))]

    def peak(count: int) -> int:
        tracemalloc.start()
        PLAIN.collect((message(train_content(user)) for _ in range(count)), wanted)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is loaded and cached once
    assert peak(400) < 1.1 * peak(20)

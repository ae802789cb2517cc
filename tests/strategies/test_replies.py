from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from mrff_model.packing import FORMAT, PACKED, pack
from strategies.messages import array_record, packed_record
from strategies.mrff import MRFF
from strategies.receiving import RoundFailedError
from strategies.replies import BadReplyError, read_evaluate_reply, read_train_reply
from strategies.server_optimizer import Average
from tests.support.replies import (
    BINS,
    PUBLIC,
    User,
    evaluate_content,
    expected,
    expert,
    message,
    new_state,
    record,
    train_content,
)

USERS = [User(1.0, np.ones(3), 0, np.ones(2)), User(1.0, np.ones(3), 0, np.ones(2))]


def without(key: str):
    return lambda content: content.pop(key)


def metric(key: str, value: Any):
    def change(content: RecordDict) -> None:
        content["metrics"][key] = value

    return change


def arrays(key: str, value: ArrayRecord):
    def change(content: RecordDict) -> None:
        content[key] = value

    return change


def no_users(content: RecordDict) -> None:
    for key in ("num-users", "num-targets"):
        content["metrics"][key] = 0
    content["metrics"]["weight"] = 0.0
    content["metrics"]["expert-users"] = [0, 0]
    content["metrics"]["expert-weight"] = [0.0, 0.0]


def block(data: bytes) -> ArrayRecord:
    return ArrayRecord({PACKED: Array("uint8", (len(data),), FORMAT, data)})


double = packed_record({PUBLIC: np.ones(3, np.float64)})
honest = pack({PUBLIC: np.ones(3, np.float32)})
BAD_TRAINING = {
    "no metrics": (without("metrics"), "the record 'metrics' is missing"),
    "another round": (metric("round", 7), "it answers round 7, asked was 1"),
    "round as a fraction": (metric("round", 1.0), "round must be a whole number"),
    "no public arrays": (without("public"), f"public lacks the array {PUBLIC}"),
    "an expert is missing": (
        without("group"),
        "group lacks the array layers.0.experts.0.up_weight",
    ),
    "an expert nobody chose": (
        arrays("group", record({expert(0): np.ones(2), expert(1): np.ones(2)})),
        "group has the array layers.0.experts.1.up_weight, which was not expected",
    ),
    "an unknown array": (
        arrays("public", record({PUBLIC: np.ones(3), "user_embedding": np.ones(8)})),
        "public has the array user_embedding, which was not expected",
    ),
    "arrays without users": (no_users, f"public has the array {PUBLIC}"),
    "wrong shape": (
        arrays("public", record({PUBLIC: np.ones((3, 1))})),
        r"must have shape \(3,\), got \(3, 1\)",
    ),
    "wrong type": (arrays("public", double), "must be float32, got float64"),
    "not a number": (
        arrays("public", record({PUBLIC: np.array([1, np.nan, 1])})),
        "holds non-finite values",
    ),
    "infinity": (
        arrays("group", record({expert(0): np.array([1, np.inf])})),
        "holds non-finite values",
    ),
    "unreadable bytes": (arrays("public", block(b"no safetensors")), "cannot be read"),
    "truncated bytes": (arrays("public", block(honest[:-1])), "cannot be read"),
    "a type that numpy has not": (
        arrays("public", block(honest.replace(b"F32", b"F8_E5M2"))),
        "cannot be read",
    ),
    "arrays one by one": (
        arrays("public", array_record({PUBLIC: np.ones(3, np.float32)})),
        "the record 'public' must hold the packed array 'arrays' alone",
    ),
    "an array beside the packed ones": (
        arrays("public", ArrayRecord({**block(honest), "more": Array(np.ones(3))})),
        "the record 'public' must hold the packed array 'arrays' alone",
    ),
    "no arrays at all": (
        arrays("public", ConfigRecord({"a": 1})),  # type: ignore[arg-type]
        "the record 'public' must hold the packed array",
    ),
    "negative users": (metric("num-users", -1), "num-users must be a whole number"),
    "users without weight": (metric("weight", 0.0), "weight 0 does not go with num-users 2"),
    "infinite weight": (metric("weight", float("inf")), "weight must be a finite number"),
    "negative weight": (metric("weight", -2.0), "weight must be a finite number of at least 0"),
    "weights do not add up": (metric("weight", 3.0), "or below it in the sum"),
    "more than everybody on an expert": (
        metric("expert-weight", [5.0, 0.0]),
        "expert-weight is above weight",
    ),
    "non-finite expert weight": (
        metric("expert-weight", [float("nan"), 0.0]),
        "expert-weight must hold finite numbers",
    ),
    "weight on another expert": (
        metric("expert-weight", [0.0, 2.0]),
        "expert-users names an expert without expert-weight",
    ),
    "too many experts": (metric("expert-users", [2, 0, 0]), "must hold 2 numbers, got 3"),
    "users do not add up": (metric("expert-users", [3, 0]), "does not add up to num-users 2"),
    "a number for a list": (metric("expert-users", 2), "must hold 2 numbers, got no list"),
    "non-finite loss": (metric("loss-sum", float("nan")), "loss-sum must be a finite number"),
    "more changed than compared": (metric("changed-users", 1), "must not decrease in this order"),
    "a foreign record": (
        arrays("private", record({"user_bias": np.ones(1)})),
        "the record 'private' was not expected",
    ),
}


@pytest.mark.parametrize(("change", "reason"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_train_replies_are_rejected_with_the_reason(change, reason) -> None:
    content = train_content(USERS)
    change(content)
    with pytest.raises(BadReplyError, match=reason):
        read_train_reply(content, expected(), 1)

    # Beside a good reply it does not count, and the round goes on.
    strategy = MRFF(new_state(), Average())
    report = strategy._aggregate_round(1, [message(content, 8), message(train_content(USERS), 9)])
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], np.float32([2, 3, 4]))
    assert report.traffic.replies == 1
    assert [rejection.node for rejection in report.traffic.rejected] == [8]


def test_a_missing_metric_is_named() -> None:
    content = train_content(USERS)
    del content["metrics"]["loss-sum"]
    with pytest.raises(BadReplyError, match="the metric loss-sum is missing"):
        read_train_reply(content, expected(), 1)


bins = [0] * BINS
BAD_EVALUATION = {
    "another round": ({"round": 3}, "it answers round 3, asked was 1"),
    "too few bins": ({"positives": [0] * (BINS - 1)}, f"must hold {BINS} numbers, got {BINS - 1}"),
    "negative count": ({"positives": [-1, *bins[1:]]}, "must hold whole numbers of at least 0"),
    "fractions": ({"negatives": [0.5] * BINS}, "must hold whole numbers"),
    "totals differ": ({"num-targets": 3}, "histograms count 2 targets, num-targets is 3"),
    "non-finite loss": ({"log-loss-sum": float("inf")}, "log-loss-sum must be a finite number"),
    "gauc above its users": ({"gauc-sum": 1.5, "gauc-users": 1}, "is impossible"),
    "more gauc users than users": ({"gauc-users": 3}, "is impossible"),
    "loads do not add up": ({"expert-users": [2, 1]}, "does not add up to num-users 2"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD_EVALUATION.values(), ids=BAD_EVALUATION)
def test_bad_evaluate_replies_are_rejected_with_the_reason(changes, reason) -> None:
    with pytest.raises(BadReplyError, match=reason):
        read_evaluate_reply(evaluate_content(**changes), expected(), 1, bins=BINS)


def test_an_error_reply_is_a_rejection_with_its_reason() -> None:
    request = message(train_content([]), 8)
    strategy = MRFF(new_state(), Average())
    error = Message(Error(code=2, reason="no data\n here"), reply_to=request)
    good = [message(train_content(USERS), 9)]
    report = strategy._aggregate_round(1, [error, *good])
    assert report.traffic.rejected[0].reason == "no data here"


def test_too_few_good_replies_fail_the_round_and_leave_the_model() -> None:
    strategy = MRFF(new_state(), Average(), min_reply_fraction=0.5)
    bad = train_content(USERS)
    bad["metrics"]["round"] = 9
    replies = [message(train_content(USERS), 5), message(bad, 6), message(bad, 7)]
    with pytest.raises(RoundFailedError, match=r"1 of 3 nodes .* node 6: it answers round 9"):
        strategy.aggregate_train(1, replies)
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], new_state().public[PUBLIC])
    assert strategy.state.round == 0


def test_a_round_nobody_answers_fails_whatever_the_fraction() -> None:
    strategy = MRFF(new_state(), Average(), min_reply_fraction=0.0)
    with pytest.raises(RoundFailedError, match="0 of 0 nodes"):
        strategy.aggregate_train(1, [])


def test_an_update_that_explodes_fails_the_round_and_leaves_the_model() -> None:
    strategy = MRFF(new_state(), Average(1e30))
    huge = [User(1.0, np.full(3, 3e38), 0, np.ones(2))]
    with pytest.raises(RoundFailedError, match="would become non-finite"):
        strategy.aggregate_train(1, [message(train_content(huge))])
    np.testing.assert_array_equal(strategy.state.public[PUBLIC], new_state().public[PUBLIC])

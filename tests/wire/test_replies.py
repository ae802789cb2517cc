"""Replies that a node may send by mistake or malice: each is rejected whole, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mrff.privacy.mechanisms.none import PlainServer
from mrff.sums import BadReplyError, CohortSums, Expected, Quantity, require
from mrff.wire.aggregation.plain import PlainSums
from mrff.wire.packing import FORMAT, PACKED, pack
from mrff.wire.records import array_record, arrays_of, content_bytes, packed_record
from mrff.wire.replies import Reply, largest_reply
from strategies.server_optimizer import Average
from tests.support.replies import (
    BINS,
    PUBLIC,
    USERS,
    asked,
    evaluate_content,
    evaluation,
    expected,
    expert,
    message,
    record,
    strategy_of,
    train_content,
)

Change = Callable[[RecordDict], Any]


def without(key: str) -> Change:
    return lambda content: content.pop(key)


def number(key: str, value: Any) -> Change:
    def change(content: RecordDict) -> None:
        content["numbers"][key] = value

    return change


def updates(value: Any) -> Change:
    def change(content: RecordDict) -> None:
        content["updates"] = value

    return change


def no_users(content: RecordDict) -> None:
    for key in ("users", "targets"):
        content["numbers"][key] = 0
    content["numbers"]["weight"] = 0.0
    content["numbers"]["expert_users"] = [0, 0]
    content["numbers"]["expert_weight"] = [0.0, 0.0]


def block(data: bytes) -> ArrayRecord:
    return ArrayRecord({PACKED: Array("uint8", (len(data),), FORMAT, data)})


def trained(public: np.ndarray, **others: np.ndarray) -> ArrayRecord:
    """The updates of `USERS` with another public one, and others beside."""
    return record({PUBLIC: public, expert(0): np.ones(2), **others})


double = packed_record({PUBLIC: np.ones(3, np.float64), expert(0): np.ones(2, np.float32)})
honest = pack({PUBLIC: np.ones(3, np.float32), expert(0): np.ones(2, np.float32)})
BAD_TRAINING = {
    "no numbers": (without("numbers"), "the record 'numbers' is missing"),
    "another round": (number("round", 7), "it answers round 7, asked was 1"),
    "round as a fraction": (number("round", 1.0), "round must be a whole number"),
    "no arrays": (without("updates"), f"updates lacks the array {PUBLIC}"),
    "no public arrays": (
        updates(record({expert(0): np.ones(2)})),
        f"updates lacks the array {PUBLIC}",
    ),
    "an expert is missing": (
        updates(record({PUBLIC: np.ones(3)})),
        "updates lacks the array layers.0.experts.0.up_weight",
    ),
    "an expert nobody chose": (
        updates(trained(np.ones(3), **{expert(1): np.ones(2)})),
        "updates has the array layers.0.experts.1.up_weight, which was not expected",
    ),
    "an unknown array": (
        updates(trained(np.ones(3), user_embedding=np.ones(8))),
        "updates has the array user_embedding, which was not expected",
    ),
    "arrays without users": (no_users, f"updates has the array {PUBLIC}"),
    "wrong shape": (
        updates(trained(np.ones((3, 1)))),
        r"must have shape \(3,\), got \(3, 1\)",
    ),
    "wrong type": (updates(double), "must be float32, got float64"),
    "not a number": (
        updates(trained(np.array([1, np.nan, 1]))),
        "holds non-finite values",
    ),
    "infinity": (
        updates(record({PUBLIC: np.ones(3), expert(0): np.array([1, np.inf])})),
        "holds non-finite values",
    ),
    "unreadable bytes": (updates(block(b"no safetensors")), "cannot be read"),
    "truncated bytes": (updates(block(honest[:-1])), "cannot be read"),
    "a type that numpy has not": (
        updates(block(honest.replace(b"F32", b"F8_E5M2"))),
        "cannot be read",
    ),
    "arrays one by one": (
        updates(array_record({PUBLIC: np.ones(3, np.float32)})),
        "the record 'updates' must hold the packed array 'arrays' alone",
    ),
    "an array beside the packed ones": (
        updates(ArrayRecord({**block(honest), "more": Array(np.ones(3))})),
        "the record 'updates' must hold the packed array 'arrays' alone",
    ),
    "no arrays at all": (
        updates(ConfigRecord({"a": 1})),
        "the record 'updates' must hold the packed array",
    ),
    "negative users": (number("users", -1), "users must be a whole number"),
    "users without weight": (number("weight", 0.0), "weight 0 does not go with users 2"),
    "infinite weight": (number("weight", float("inf")), "weight must be a finite number"),
    "negative weight": (number("weight", -2.0), "weight must be a finite number of at least 0"),
    "weights do not add up": (number("weight", 3.0), "or below it in the sum"),
    "more than everybody on an expert": (
        number("expert_weight", [5.0, 0.0]),
        "expert_weight is above weight",
    ),
    "non-finite expert weight": (
        number("expert_weight", [float("nan"), 0.0]),
        "expert_weight must hold finite numbers",
    ),
    "weight on another expert": (
        number("expert_weight", [0.0, 2.0]),
        "expert_users names an expert without expert_weight",
    ),
    "too many experts": (number("expert_users", [2, 0, 0]), "must hold 2 numbers, got 3"),
    "users do not add up": (number("expert_users", [3, 0]), "does not add up to users 2"),
    "a number for a list": (number("expert_users", 2), "must hold 2 numbers, got no list"),
    "non-finite loss": (number("loss", float("nan")), "loss must be a finite number"),
    "more changed than compared": (number("changed", 1), "must not decrease in this order"),
    "a foreign number": (number("seconds", 0.1), "the number 'seconds' was not expected"),
    "a foreign record": (
        lambda content: content.update(private=record({"user_bias": np.ones(1)})),
        "the record 'private' was not expected",
    ),
}


def read(content: RecordDict) -> CohortSums:
    """What counts of a train reply to round 1."""
    sums = Reply.read(content, 1, expected()).sums
    PlainServer().check(sums, expected())
    return sums


@pytest.mark.parametrize(("change", "reason"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_train_replies_are_rejected_with_the_reason(change: Change, reason: str) -> None:
    content = train_content(USERS)
    change(content)
    with pytest.raises(BadReplyError, match=reason):
        read(content)

    # Beside a good reply it does not count, and the round goes on.
    replies = [message(content, 8), message(train_content(USERS), 9)]
    arrays, _ = strategy_of(Average(1.0)).aggregate_train(1, replies)
    np.testing.assert_array_equal(arrays_of(arrays)[PUBLIC], np.float32([2, 3, 4]))
    _, traffic = PlainSums().collect(replies, asked())
    assert traffic.replies == 1
    assert [rejection.node for rejection in traffic.rejected] == [8]


def test_a_missing_number_is_named() -> None:
    content = train_content(USERS)
    del content["numbers"]["loss"]
    with pytest.raises(BadReplyError, match="the number loss is missing"):
        read(content)


bins = [0] * BINS
BAD_EVALUATION = {
    "another round": ({"round": 3}, "it answers round 3, asked was 1"),
    "too few bins": ({"positives": [0] * (BINS - 1)}, f"must hold {BINS} numbers, got {BINS - 1}"),
    "negative count": ({"positives": [-1, *bins[1:]]}, "must hold whole numbers of at least 0"),
    "fractions": ({"negatives": [0.5] * BINS}, "must hold whole numbers"),
    "totals differ": ({"targets": 3}, "histograms count 2 targets, targets is 3"),
    "non-finite loss": ({"log_loss_sum": float("inf")}, "log_loss_sum must be a finite number"),
    "gauc above its users": ({"gauc_sum": 1.5, "gauc_users": 1}, "is impossible"),
    "more gauc users than users": ({"gauc_users": 3}, "is impossible"),
    "loads do not add up": ({"expert_users": [2, 1]}, "does not add up to users 2"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD_EVALUATION.values(), ids=BAD_EVALUATION)
def test_bad_evaluate_replies_are_rejected_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    asks = evaluation()
    content = evaluate_content(**changes)
    with pytest.raises(BadReplyError, match=reason):
        require(not (wrong := asks.check(_read_evaluation(content))), wrong)


def test_honest_replies_are_rejected_by_nobody() -> None:
    assert read(train_content(USERS)).number("users") == 2
    assert evaluation().check(_read_evaluation(evaluate_content())) == ""


def _read_evaluation(content: RecordDict) -> CohortSums:
    return Reply.read(content, 1, Expected(numbers=evaluation().quantities())).sums


shapes = npst.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=4)
names = st.text("abc._", min_size=1, max_size=12).filter(lambda name: name != "round")
whole = npst.arrays(np.int64, shapes, elements=st.integers(0, 2**53 - 1))
amounts = npst.arrays(np.float64, shapes, elements=st.floats(0.0, 1e300))
changes = npst.arrays(np.float32, shapes, elements=st.floats(-(2.0**100), 2.0**100, width=32))
all_sums = st.builds(
    CohortSums,
    st.dictionaries(names, changes, max_size=4),
    st.dictionaries(names, st.one_of(whole, amounts), max_size=5),
)


@given(st.integers(0, 2**31), all_sums)
def test_a_reply_comes_back_as_it_was(server_round: int, sums: CohortSums) -> None:
    """Over Flower's own encoding, bit for bit; it weighs no more than an honest one may."""
    kinds = {n: Quantity(v.shape, whole=v.dtype.kind == "i") for n, v in sums.numbers.items()}
    wanted = Expected({n: a.shape for n, a in sums.updates.items()}, kinds)
    content = Reply(server_round, sums).content()
    data = recorddict_to_proto(content).SerializeToString()
    travelled = recorddict_from_proto(ProtoRecordDict.FromString(data))
    assert content_bytes(travelled) <= largest_reply(wanted)

    read = Reply.read(travelled, server_round, wanted)

    assert read.round == server_round
    for ours, theirs in ((read.sums.updates, sums.updates), (read.sums.numbers, sums.numbers)):
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
            assert ours[name].tobytes() == array.tobytes()

"""Aggregation ``compressed``: one rounding for all nodes, exact where a phase wants it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from mrff.config import RunConfig, full_names
from mrff.sums import CohortSums, Expected
from mrff.wire.aggregation import AGGREGATIONS, Asked, NodeSide, aggregation_of
from mrff.wire.aggregation.held import BECOMES, DELTA, HELD, HeldArrays, Part
from mrff.wire.packing import FORMAT, pack
from mrff.wire.records import content_bytes, packed_record, record_of_block, rounded_record
from mrff.wire.replies import Reply
from mrff.wire.requests import MODEL, Request, RoundFacts, RunFacts
from mrff.wire.rounding import Rounding
from tests.support.flower_internals import identify

TABLE = "item_features.item_table.weight"
CONFIG = RunConfig.from_flat(full_names({"compression": "4-bit", "seed": 3}))
ASKED = Asked("round 1", 1, Expected({TABLE: (40, 64)}), lambda sums: None, roundable=True)
VALUES = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
LINEAR = {"items": np.array([1.5], np.float32)}


def exchanged(folder: Path, asked: Asked = ASKED, number: int = 3) -> tuple[list[Message], object]:
    """The messages that nodes answered by ``VALUES`` times their id, and what was collected."""
    identify()
    aggregation = aggregation_of(CONFIG)
    node = aggregation.client(NodeSide(CONFIG, {}, folder, folder))
    server = aggregation.server(CONFIG)
    request = Request(RunFacts(), RoundFacts(1), {TABLE: VALUES}, {}, LINEAR)
    content = request.content()

    def send(messages: list[Message]) -> Iterable[Message]:
        for message in messages:
            factor = message.metadata.dst_node_id
            reply = Reply(1, CohortSums({TABLE: factor * VALUES}))
            answer = node.submit(message.content, lambda _, reply=reply: reply)  # type: ignore[misc]
            yield Message(answer, reply_to=message)

    messages = [Message(content, n, "train", group_id="1") for n in range(1, number + 1)]
    return messages, server.collect(server.exchange(send, messages, asked), asked)


def test_the_setting_says_which_aggregation() -> None:
    for values, name in (
        ({}, "plain"),
        ({"compression": "8-bit"}, "compressed"),
        ({"secure-aggregation": True}, "secure"),
    ):
        config = RunConfig.from_flat(full_names(values))
        assert aggregation_of(config) is AGGREGATIONS[name]


def test_all_nodes_are_sent_one_rounding_and_their_own_are_summed(tmp_path: Path) -> None:
    messages, (sums, traffic) = exchanged(tmp_path)  # type: ignore[misc]
    assert len({id(message.content) for message in messages}) == 1
    sent = Request.read(messages[0].content)
    np.testing.assert_array_equal(sent.public[TABLE], VALUES)  # the first one is whole
    step = np.abs(VALUES).max(axis=1, keepdims=True) * 2 ** (1 / 8) / 7
    np.testing.assert_array_equal(sent.linear["items"], LINEAR["items"])
    assert sums.updates[TABLE].dtype == np.float64
    error = sums.updates[TABLE] - 6.0 * VALUES
    assert error.any()
    assert (np.abs(error) < 6.0 * step).all()
    exact = content_bytes(Reply(1, CohortSums({TABLE: VALUES})).content())
    assert 3 * exact > 4 * traffic.bytes_up, "the bytes counted are those that travel"


def test_nodes_follow_the_model_by_rounded_changes(tmp_path: Path) -> None:
    """What is left out of a change is in the next: copy and model stay within steps of changes."""
    identify()
    server, folders = aggregation_of(CONFIG).server(CONFIG), {n: tmp_path / str(n) for n in (1, 2)}
    client = aggregation_of(CONFIG).client
    halves = {n: client(NodeSide(CONFIG, {"state-dir": ""}, f, f)) for n, f in folders.items()}
    seen = dict[int, np.ndarray]()

    def send(messages: list[Message]) -> Iterable[Message]:
        for message in messages:
            node, content = message.metadata.dst_node_id, message.content

            def work(honest: int, node: int = node, content: RecordDict = content) -> Reply:
                found = halves[node].received(Request.read(content), content)
                seen[node] = found.public[TABLE]
                return Reply(1, CohortSums({TABLE: VALUES}))

            yield Message(halves[node].submit(content, work), reply_to=message)

    def sent(model: np.ndarray) -> int:
        """The bytes of a message; both nodes have the same model."""
        content = Request(RunFacts(), RoundFacts(1), {TABLE: model}, {}).content()
        messages = [Message(content, node, "train", group_id="1") for node in folders]
        server.collect(server.exchange(send, messages, ASKED), ASKED)
        np.testing.assert_array_equal(seen[1], seen[2])
        return max(content_bytes(message.content) for message in messages)

    draws, model = np.random.default_rng(1), VALUES
    whole = sent(model)
    np.testing.assert_array_equal(seen[1], model)
    for _ in range(30):
        model = model + 0.01 * draws.standard_normal(model.shape).astype(np.float32)
        changed = sent(model)
        before = seen[1]
        assert 0.0 < np.abs(before - model).max() < 0.02
        held = sent(model)  # as a validation of its own does
        np.testing.assert_array_equal(seen[1], before)
        assert held + 300 < changed < whole / 5


def test_what_must_be_exact_is(tmp_path: Path) -> None:
    messages, (sums, _) = exchanged(tmp_path, replace(ASKED, roundable=False))  # type: ignore[misc]
    np.testing.assert_array_equal(Request.read(messages[0].content).public[TABLE], VALUES)
    np.testing.assert_allclose(sums.updates[TABLE], 6.0 * VALUES, rtol=1e-6)


@pytest.mark.parametrize(
    ("record", "asked", "reason"),
    [
        (
            packed_record({TABLE: VALUES}),
            ASKED,
            "comes as safetensors, it has to come as rounded-4",
        ),
        (
            rounded_record({TABLE: VALUES}, Rounding(8), 0),
            ASKED,
            "comes as rounded-8, it has to come as rounded-4",
        ),
        (
            rounded_record({TABLE: VALUES}, Rounding(4), 0),
            replace(ASKED, roundable=False),
            "comes as rounded-4, it has to come as safetensors",
        ),
    ],
    ids=["uncompressed", "another width", "rounded where it must be exact"],
)
def test_an_answer_in_another_form_does_not_count(
    record: RecordDict, asked: Asked, reason: str
) -> None:
    identify()
    server = aggregation_of(CONFIG).server(CONFIG)
    good = Reply(1, CohortSums({TABLE: VALUES}))
    rounding = Rounding(4) if asked.roundable else None
    bad = good.content()
    bad["updates"] = record
    replies = [
        Message(content, reply_to=Message(RecordDict(), node, "train"))
        for node, content in ((1, good.content(rounding)), (2, bad))
    ]
    _, traffic = server.collect(replies, asked)
    (rejection,) = traffic.rejected
    assert (traffic.replies, rejection.node) == (1, 2)
    assert reason in rejection.reason


def changed_request(folder: Path, delta: ArrayRecord, becomes: str) -> RecordDict:
    """What a node with `VALUES` in its folder is asked; it answers, or says why not."""
    whole = Part(MODEL, pack({TABLE: VALUES}))
    held = HeldArrays(folder)
    held.arrays_of(RecordDict({MODEL: record_of_block(whole.block, FORMAT)}))
    named = ConfigRecord({MODEL: whole.digest, BECOMES: becomes})
    content = RecordDict({HELD: named, DELTA: delta})
    held.arrays_of(content)
    return content


BOMB = record_of_block(zlib.compress(bytes(50 << 20), 9), "rounded-4")
SMALL = rounded_record({TABLE: VALUES}, Rounding(4), 0)


@pytest.mark.parametrize(
    ("delta", "becomes", "reason"),
    [
        (SMALL, "0" * 64, "does not hold the arrays 0000"),  # not what it adds up to
        (SMALL, "../x", "must be named by their digest"),
        (rounded_record({"b": VALUES}, Rounding(4), 0), "0" * 64, "other arrays than the model"),
        (rounded_record({TABLE: VALUES[1:]}, Rounding(4), 0), "0" * 64, "other arrays than the"),
        (BOMB, "0" * 64, "'delta' cannot be read: it unpacks to more than"),
        (record_of_block(b"x", "rounded-4"), "0" * 64, "'delta' cannot be read: not zlib"),
        (packed_record({TABLE: VALUES}), "0" * 64, "comes as safetensors"),
    ],
    ids=["a wrong digest", "a path", "other names", "other shapes", "bomb", "corrupt", "exact"],
)
def test_changes_that_lie_are_one_clear_error_and_are_not_kept(
    delta: ArrayRecord, becomes: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        changed_request(tmp_path, delta, becomes)
    assert "\n" not in str(caught.value)
    assert len(list((tmp_path / "held" / MODEL).iterdir())) == 1

"""Arrays that no round moves travel once, and nobody takes on trust what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from mrff.config import RunConfig
from mrff.sums import CohortSums, Expected
from mrff.wire.aggregation import Asked, NodeSide
from mrff.wire.aggregation.held import HELD, KEPT, LACKS, HeldArrays, LacksError
from mrff.wire.aggregation.plain import PlainNode, PlainSums
from mrff.wire.records import content_bytes
from mrff.wire.replies import Reply
from mrff.wire.requests import FIXED, Request, RequestError, RoundFacts, RunFacts
from tests.support.flower_internals import identify

RATES = "item_statistics.rates"
DEPLOYED = {"state-dir": "its own"}
ASKED = Asked("training round 1", 1, Expected(), lambda sums: None)


def request(value: float = 1.0) -> Request:
    public = {RATES: np.full((300, 2), value, np.float32), "head.up.bias": np.ones(2, np.float32)}
    group = {f"clusters.1.{RATES}": np.zeros((3, 2), np.float32)}
    return Request(RunFacts("hash", "run"), RoundFacts(1), public, group)


class Nodes:
    """Nodes 1, 2, ..., each with a folder of its own; what they were sent, in order."""

    def __init__(self, folder: Path, number: int) -> None:
        identify()
        config = RunConfig.from_flat({})
        self.folders = {node: folder / str(node) for node in range(1, number + 1)}
        self.halves = {
            n: PlainNode(NodeSide(config, DEPLOYED, f, f)) for n, f in self.folders.items()
        }
        self.sent: list[tuple[int, RecordDict]] = []
        self.understood: list[Request] = []

    def asked(self, of: Request) -> list[Message]:
        content = of.content()
        return [Message(content, node, "train", group_id="1", ttl=60) for node in self.folders]

    def send(self, messages: list[Message]) -> Iterable[Message]:
        for message in messages:
            node, content = message.metadata.dst_node_id, message.content
            self.sent.append((node, content))
            yield Message(self.answer(node, content), reply_to=message)

    def answer(self, node: int, content: RecordDict) -> RecordDict:
        def work(honest: int) -> Reply:
            found = self.halves[node].received(Request.read(content), content)
            self.understood.append(found)
            return Reply(1, CohortSums())

        return self.halves[node].submit(content, work)

    def whole(self) -> list[tuple[int, bool]]:
        """Who was sent what, and whether it was whole; forgotten then."""
        found = [(node, FIXED in content) for node, content in self.sent]
        self.sent.clear()
        return found


def phase(server: PlainSums, nodes: Nodes, of: Request) -> list[Message]:
    """One phase that everybody answers; the messages that were sent."""
    messages = nodes.asked(of)
    _, traffic = server.collect(server.exchange(nodes.send, messages, ASKED), ASKED)
    assert (traffic.replies, traffic.rejected) == (len(nodes.folders), [])
    for found in nodes.understood:
        assert {**found.public, **found.group}.keys() == {**of.public, **of.group}.keys()
        for name, array in {**of.public, **of.group}.items():
            part = found.group if name in of.group else found.public
            np.testing.assert_array_equal(part[name], array)
    nodes.understood.clear()
    return messages


def test_they_travel_once_to_every_node(tmp_path: Path) -> None:
    server, nodes = PlainSums(), Nodes(tmp_path, 2)
    first = phase(server, nodes, request())
    assert nodes.whole() == [(1, True), (2, True)]
    second = phase(server, nodes, request())
    assert nodes.whole() == [(1, False), (2, False)]
    small, large = content_bytes(second[0].content), content_bytes(first[0].content)
    assert small < large - request().public[RATES].nbytes
    phase(server, nodes, request(2.0))  # others: their digest is another
    assert nodes.whole() == [(1, True), (2, True)]


def test_a_node_that_joins_or_has_lost_them_is_sent_them_whole(tmp_path: Path) -> None:
    server, nodes = PlainSums(), Nodes(tmp_path, 3)
    late = nodes.folders.pop(3)
    phase(server, nodes, request())
    nodes.whole()
    for file in (nodes.folders[2] / "held/fixed").iterdir():
        file.unlink()
    nodes.folders[3] = late
    messages = phase(server, nodes, request())
    assert nodes.whole() == [(1, False), (2, False), (3, True), (2, True)]
    assert [m.metadata.dst_node_id for m in messages] == [1, 2, 3, 2], "all of their bytes count"
    phase(server, nodes, request())
    assert nodes.whole() == [(1, False), (2, False), (3, False)]
    phase(PlainSums(), nodes, request())  # a server that is taken up again knows of nobody
    assert nodes.whole() == [(1, True), (2, True), (3, True)]


def test_what_has_changed_on_a_disk_is_not_used(tmp_path: Path) -> None:
    server, nodes = PlainSums(), Nodes(tmp_path, 1)
    phase(server, nodes, request())
    (kept,) = (nodes.folders[1] / "held/fixed").iterdir()
    kept.write_bytes(kept.read_bytes()[:-8] + bytes(8))
    nodes.whole()
    phase(server, nodes, request())
    assert nodes.whole() == [(1, False), (1, True)]


def test_a_node_that_always_lacks_them_is_left_out(tmp_path: Path) -> None:
    server, nodes = PlainSums(), Nodes(tmp_path, 2)
    honest = nodes.answer

    def answer(node: int, content: RecordDict) -> RecordDict:
        lacks = RecordDict({LACKS: ConfigRecord({"digest": "0" * 64})})
        return lacks if node == 2 else honest(node, content)

    nodes.answer = answer  # type: ignore[method-assign]
    _, traffic = server.collect(server.exchange(nodes.send, nodes.asked(request()), ASKED), ASKED)
    assert (traffic.sent, traffic.replies) == (2, 1)
    (rejection,) = traffic.rejected
    assert (rejection.node, rejection.reason) == (2, "the record 'lacks' was not expected")
    assert nodes.whole() == [(1, True), (2, True), (2, True)]


def held(digest: object, name: str = FIXED) -> RecordDict:
    return RecordDict({HELD: ConfigRecord({name: digest})})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "content",
    [held("../../secret"), held("0" * 63), held("A" * 64), held(3), held(b"0" * 64),
     held("0" * 64, "other"), RecordDict({HELD: MetricRecord({FIXED: 1})})],
)  # fmt: skip
def test_only_a_digest_names_them(content: RecordDict, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="must be named by their digest") as caught:
        HeldArrays(tmp_path).arrays_of(content)
    assert not isinstance(caught.value, LacksError)
    with pytest.raises(LacksError):
        HeldArrays(tmp_path).arrays_of(held("0" * 64))


def test_a_node_that_cannot_keep_anything_answers_and_is_sent_it_whole_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "held").write_text("no folder")
    server, nodes = PlainSums(), Nodes(tmp_path, 1)
    phase(server, nodes, request())
    phase(server, nodes, request())
    assert nodes.whole() == [(1, True), (1, False), (1, True)]
    assert "cannot be kept" in caplog.text


def test_a_node_keeps_the_latest_few(tmp_path: Path) -> None:
    keeps: Callable[[RecordDict], object] = HeldArrays(tmp_path).arrays_of
    for value in range(KEPT + 3):
        keeps(request(float(value)).content())
    assert len(list((tmp_path / "held/fixed").iterdir())) == KEPT

"""The server's side of a secure sum on Flower's messages: five stages instead of one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict

from mrff.config import PrivacySettings
from mrff.sums import BadReplyError, CohortSums
from mrff.wire.aggregation.base import (
    Asked,
    Exchanged,
    ModelCopy,
    RoundFailedError,
    Send,
    reason_of,
    reasons_of,
)
from mrff.wire.aggregation.secure.encoding import SATURATED, SumLayout
from mrff.wire.aggregation.secure.messages import (
    KEYS,
    RECORD,
    SHARES,
    UNMASK,
    StageRequest,
    block_of,
    contents_of,
    vectors_of,
)
from mrff.wire.aggregation.secure.opening import Opening
from mrff.wire.aggregation.secure.primitives import SecureError
from mrff.wire.aggregation.secure.ranges import EXACT_BITS, Ranges
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.records import content_bytes
from mrff.wire.traffic import Rejection, Traffic

Answers = Iterator[tuple[int, bytes]]  # by Flower's node id


@dataclass
class Stages:
    """A sum under way: messages out, answers in, and who is out."""

    send: Send
    pattern: Message  # every message of the sum goes as this one
    session: Session
    traffic: Traffic = field(default_factory=Traffic)

    def ask(self, message_type: str, questions: Mapping[int, StageRequest]) -> Answers:
        """Nodes and the blocks they answered with; who gives none is out and noted."""
        run = self.pattern.content["run"]
        contents = {
            node: RecordDict({"run": run, RECORD: asked.record()})
            for node, asked in questions.items()
        }
        messages = [self.message(content, n, message_type) for n, content in contents.items()]
        yield from self.exchanged(messages)

    def message(self, content: RecordDict, node: int, message_type: str) -> Message:
        """One more message of the sum."""
        about = self.pattern.metadata
        return Message(content, node, message_type, group_id=about.group_id, ttl=about.ttl)

    def exchanged(self, messages: list[Message]) -> Answers:
        """The same for messages that are made already."""
        replies = self.send(messages)
        for message in replies:
            node = message.metadata.src_node_id
            if isinstance(replies, Exchanged):
                node = replies.node_of(message)
            try:
                if message.has_error():
                    raise SecureError(reason_of(message))
                self.traffic.bytes_up += content_bytes(message.content)
                yield node, block_of(message.content)
            except SecureError as error:
                self.out(node, error)
        if isinstance(replies, Exchanged):
            self.traffic.missing += replies.missing
        self.traffic.bytes_down += sum(content_bytes(message.content) for message in messages)

    def out(self, node: int, error: Exception) -> None:
        """The node takes no further part."""
        self.traffic.rejected.append(Rejection(node, str(error)))


@dataclass(frozen=True)
class Masked:
    """What `SecureServer.exchange` hands to `SecureServer.collect`, which sends the messages."""

    stages: Stages
    opening: Opening
    names: Mapping[int, str]  # of nodes that have shared
    messages: list[Message]
    began: float

    def __iter__(self) -> Iterator[Message]:
        """Refused: whoever looked would send all messages, and `collect` would send them again.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "replies of a secure sum cannot be looked through, they are masked: hand them on to "
            "super().aggregate_train or super().aggregate_evaluate as they are"
        )


class SecureServer:
    """See `ServerSums`."""

    def __init__(self, privacy: PrivacySettings) -> None:
        self._privacy, self._ranges = privacy, Ranges(privacy.secure_range)
        self.copy = ModelCopy()

    def exchange(self, send: Send, messages: list[Message], asked: Asked) -> Masked:
        """Keys and shares; then the masked sums are asked for.

        Raises:
            RoundFailedError: too few nodes have shared.
        """
        if not messages:
            raise RoundFailedError(f"{asked.phase}: no node is there to be asked")
        began, pattern = time.monotonic(), messages[0]
        facts = pattern.content["run"]
        kind = pattern.metadata.message_type
        session = Session(
            str(facts.get("training_id", "")), kind, asked.round, secrets.randbits(62)
        )
        stages = Stages(send, pattern, session)
        stages.traffic.sent = len(messages)
        try:
            names, opening = self._prepared(
                stages, [m.metadata.dst_node_id for m in messages], asked
            )
        except SecureError as error:
            raise self._failed(asked, stages.traffic, error) from error
        layout = opening.layout.packed()
        prepared = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node in names:
                shares = opening.shares_for(names[node])
                record = StageRequest(session, layout=layout, contents=shares).record()
                content = RecordDict({**message.content, RECORD: record})
                prepared.append(stages.message(content, node, kind))
        return Masked(stages, opening, names, prepared, began)

    def collect(self, replies: Iterable[Message], asked: Asked) -> tuple[CohortSums, Traffic]:
        """The sum over all nodes whose masked sums came; see `ServerSums.collect`."""
        if not isinstance(replies, Masked):
            raise RoundFailedError(f"{asked.phase}: these replies are of no secure sum")
        stages, opening, names = replies.stages, replies.opening, replies.names
        for node, block in stages.exchanged(replies.messages):
            try:
                opening.add(names[node], vectors_of(block))
            except SecureError as error:
                stages.out(node, error)
        traffic, survivors = stages.traffic, opening.survivors
        traffic.replies = len(survivors)
        try:
            if len(survivors) < asked.min_fraction * traffic.sent:
                raise SecureError(f"fewer than min-reply-fraction={asked.min_fraction:g}")
            self._open(stages, opening, {n: node for node, n in names.items() if n in survivors})
            sums = opening.layout.decoded(opening.opened(), len(survivors))
            saturated = sums.numbers.pop(SATURATED, None)
            asked.check(sums)
        except (SecureError, BadReplyError) as error:
            raise self._failed(asked, traffic, error) from error
        if saturated is not None:
            self._ranges.seen(sums.updates, dict(zip(sorted(sums.updates), saturated, strict=True)))
        traffic.seconds = time.monotonic() - replies.began
        return sums, traffic

    def _prepared(
        self, stages: Stages, nodes: list[int], asked: Asked
    ) -> tuple[dict[int, str], Opening]:
        """Stages 1 and 2."""
        bundles: dict[int, Bundle] = {}
        question = StageRequest(stages.session)
        for node, block in stages.ask(KEYS, dict.fromkeys(nodes, question)):
            try:
                bundles[node] = Bundle.unpacked(block.decode())
            except (SecureError, UnicodeDecodeError) as error:
                stages.out(node, error)
        party = Party.of(
            stages.session,
            bundles.values(),
            self._privacy.secure_threshold,
            self._privacy.secure_colluders,
        )
        layout = SumLayout.of(
            asked.expected,
            self._ranges.of(asked.expected.updates, exact=asked.exact),
            ring_bits=64 if asked.exact else self._privacy.secure_ring_bits,
            value_bits=EXACT_BITS if asked.exact else self._privacy.secure_value_bits,
        )
        opening = Opening(party, layout)
        everybody = StageRequest(
            stages.session, bundles=[b.packed() for b in party.bundles.values()]
        )
        names = {}
        for node, block in stages.ask(SHARES, dict.fromkeys(bundles, everybody)):
            try:
                opening.take_shares(bundles[node].name, contents_of(block))
                names[node] = bundles[node].name
            except SecureError as error:
                stages.out(node, error)
        if len(names) < party.terms.needed:
            raise SecureError(f"{len(names)} nodes have shared, {party.terms.needed} are needed")
        return names, opening

    def _open(self, stages: Stages, opening: Opening, nodes: dict[str, int]) -> None:
        """Stages 4 and 5: all who are left sign who is left, and give what opens their sum."""
        names = {node: name for name, node in nodes.items()}
        survivors = sorted(nodes)
        asked = StageRequest(stages.session, survivors=survivors)
        signatures = {
            names[node]: block for node, block in stages.ask(UNMASK, dict.fromkeys(names, asked))
        }

        def to_open(name: str) -> StageRequest:
            near = {n: signatures[n] for n in opening.party.neighbours[name] if n in signatures}
            return StageRequest(stages.session, survivors=survivors, contents=near)

        for node, block in stages.ask(UNMASK, {nodes[name]: to_open(name) for name in signatures}):
            try:
                opening.take_opened(names[node], contents_of(block))
            except SecureError as error:
                stages.out(node, error)

    def _failed(self, asked: Asked, traffic: Traffic, error: Exception) -> RoundFailedError:
        text = (
            f"{asked.phase}: the secure sum of {traffic.sent} nodes failed, nothing was opened: "
            f"{error} ({len(traffic.missing)} missing, {len(traffic.rejected)} rejected)"
        )
        return RoundFailedError("; ".join([text, *reasons_of(traffic)]))

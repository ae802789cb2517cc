"""The node's side of a secure sum on Flower's messages: an answer for each stage."""

from __future__ import annotations

import json
from collections.abc import Callable

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from mrff.wire.aggregation.base import NodeSide
from mrff.wire.aggregation.secure.encoding import SumLayout
from mrff.wire.aggregation.secure.identity import Pins, identity_of
from mrff.wire.aggregation.secure.messages import (
    StageRequest,
    block_record,
    packed_contents,
    packed_vectors,
)
from mrff.wire.aggregation.secure.primitives import SecureError, digest, names_digest
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.aggregation.secure.shares import Secrets
from mrff.wire.aggregation.secure.state import Opened, SecureState
from mrff.wire.replies import Reply
from mrff.wire.requests import Request

_TRAIN = "train"
Work = Callable[[], tuple[Secrets, bytes]]


class SecureClient:
    """One node in secure sums.

    Raises:
        ConfigError: see `identity_of`.
    """

    def __init__(self, node: NodeSide) -> None:
        privacy = node.config.privacy

        def party_of(session: Session, bundles: list[Bundle]) -> Party:
            threshold, colluders = privacy.secure_threshold, privacy.secure_colluders
            return Party.of(session, bundles, threshold, colluders)

        self._party_of = party_of
        self._identity = identity_of(node.node_config)
        self._pins = Pins.of(node.node_config)
        self._state = SecureState(node.training_folder, party_of)
        self._opened = Opened(node.folder, self._identity.name)

    def keys(self, content: RecordDict) -> RecordDict:
        """Answers ``query.secure_keys``: a session begins."""
        asked = StageRequest.read(content)
        self._state.begin(asked.session)

        def show() -> tuple[Secrets, bytes]:
            held = Secrets(self._identity, asked.session)
            return held, held.bundle().packed().encode()

        return self._answer(asked, "keys", show)

    def shares(self, content: RecordDict) -> RecordDict:
        """Answers ``query.secure_shares``: the keys of all nodes came."""
        asked = StageRequest.read(content)

        def share() -> tuple[Secrets, bytes]:
            held = self._held(asked)
            party = self._party_of(
                asked.session, [Bundle.unpacked(bundle) for bundle in asked.bundles]
            )
            self._require_nodes(len(party.bundles))
            return held, packed_contents(held.share(party))

        return self._answer(asked, "shares", share)

    def received(self, request: Request, content: RecordDict) -> Request:
        """Requests of secure sums hold all that they ask about."""
        return request

    def submit(self, content: RecordDict, work: Callable[[int], Reply]) -> RecordDict:
        """Answers the request that carries the sum; ``work`` is done only if it was not before."""
        asked = StageRequest.read(content)
        question = _question(content, asked.session)

        def masked() -> tuple[Secrets, bytes]:
            held = self._held(asked)
            held.receive(asked.contents)
            held.question = question
            layout = SumLayout.unpacked(asked.layout)
            assert held.party is not None
            layout.check_nodes(len(held.party.bundles))
            vectors = held.mask(layout.encoded(work(held.party.terms.honest).sums))
            return held, packed_vectors(vectors)

        return self._answer(asked, "masked", masked, question)

    def unmask(self, content: RecordDict) -> RecordDict:
        """Answers ``query.secure_unmask``: signs the survivors, then opens for those who did."""
        asked = StageRequest.read(content)
        survivors = set(asked.survivors)
        signed = names_digest(survivors)  # the same list in another order is no second list

        def sign() -> tuple[Secrets, bytes]:
            held = self._held(asked)
            self._require_nodes(len(survivors))
            return held, held.sign(survivors)

        def open_up() -> tuple[Secrets, bytes]:
            held = self._held(asked)
            if self._state.answer(asked.session, "sign", signed) is None:
                raise SecureError("this node has signed no list of survivors of this sum")
            shares = packed_contents(held.open(survivors, asked.contents))
            self._opened.note(held, survivors, self._pins.sums_per_round)
            return held, shares

        if not asked.contents:
            return self._answered(asked, "sign", signed, sign)
        reply = self._answer(asked, "open", open_up)
        self._state.forget(asked.session)
        return reply

    def _answer(
        self,
        asked: StageRequest,
        stage: str,
        work: Work,
        about: bytes = b"",
    ) -> RecordDict:
        return self._answered(asked, stage, digest(asked.digest(), about), work)

    def _answered(
        self,
        asked: StageRequest,
        stage: str,
        question: bytes,
        work: Work,
    ) -> RecordDict:
        answer = self._state.answer(asked.session, stage, question)
        if answer is None:
            held, made = work()
            answer = self._state.keep(held, stage, question, made)
        return block_record(answer)

    def _held(self, asked: StageRequest) -> Secrets:
        return self._state.secrets(asked.session, self._identity)

    def _require_nodes(self, nodes: int) -> None:
        if nodes < self._pins.least_nodes:
            raise SecureError(
                f"{nodes} nodes take part in this sum, this node wants "
                f"secure-min-nodes={self._pins.least_nodes}"
            )


def _question(content: RecordDict, session: Session) -> bytes:
    """What a request asks, whoever takes part; what a later evaluation would repeat is left out."""
    arrays = [
        part
        for name, record in sorted(content.items())
        if isinstance(record, ArrayRecord)
        for key in sorted(record)
        for part in (name.encode(), key.encode(), record[key].data)
    ]
    facts = content.get("round")
    told = dict(facts) if isinstance(facts, ConfigRecord) else {}
    kept = {key: told.get(key) for key in ("part", "mixes", "loads")}
    if session.phase == _TRAIN:
        kept["round"] = told.get("round")
    return digest(session.phase.encode(), json.dumps(kept, sort_keys=True).encode(), *arrays)

"""What the nodes of one secure sum know of each other: the session, its keys, its survivors."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from mrff.wire.aggregation.secure.graph import Neighbourhoods, Terms
from mrff.wire.aggregation.secure.primitives import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    SecureError,
    digest,
    is_signed,
    signature,
)

Roster = Mapping[str, bytes]
"""Ed25519 public keys of all nodes by name; agreed on without the server."""


@dataclass(frozen=True)
class Session:
    """One attempt at one sum.

    Args:
        training: the run's lineage.
        phase: the message that carries the sum, with its part: ``train``, ``evaluate test``.
        round: that it is for.
        attempt: another number whenever the server begins anew.
    """

    training: str
    phase: str
    round: int
    attempt: int

    @cached_property
    def id(self) -> bytes:
        """32 bytes that no other session has."""
        return digest(json.dumps(asdict(self), sort_keys=True).encode())


@dataclass(frozen=True)
class Bundle:
    """A node's public keys for one session, signed.

    Args:
        nonce: the node's own part of every mask it shares: a session that is replayed has others.
        mask_key, seal_key: X25519.
        verify_key: Ed25519, whose signature it is.
    """

    name: str
    nonce: bytes
    mask_key: bytes
    seal_key: bytes
    verify_key: bytes
    signature: bytes = b""

    def signed(self, session: Session, signing_key: bytes) -> Bundle:
        """The same with its signature."""
        return replace(self, signature=signature(signing_key, self._content(session)))

    def check(self, session: Session, roster: Roster | None) -> None:
        """Whether it is what that node made for this session.

        Raises:
            SecureError: a key of somebody else, or of another session.
        """
        known = self.verify_key if roster is None else roster.get(self.name)
        if known is None:
            raise SecureError(f"node {self.name!r} is not in this node's secure-roster")
        if known != self.verify_key or not is_signed(known, self._content(session), self.signature):
            raise SecureError(
                f"the keys shown for node {self.name!r} are not its own, or of another round"
            )

    def packed(self) -> str:
        """As it travels."""
        return json.dumps([self.name, b64encode(self._keys + self.signature).decode()])

    @classmethod
    def unpacked(cls, text: str) -> Bundle:
        """The inverse of `packed`.

        Raises:
            SecureError: it is none.
        """
        try:
            name, content = json.loads(text)
            found = b64decode(content, validate=True)
        except (ValueError, TypeError) as error:
            raise SecureError(f"a node's keys cannot be read: {error}") from error
        if len(found) != 4 * KEY_BYTES + SIGNATURE_BYTES or not name:
            raise SecureError(f"the keys of node {name!r} have wrong lengths")
        nonce, mask, seal, verify = (found[KEY_BYTES * n : KEY_BYTES * (n + 1)] for n in range(4))
        return cls(str(name), nonce, mask, seal, verify, found[4 * KEY_BYTES :])

    def _content(self, session: Session) -> bytes:
        return digest(b"mrff secure keys 1", session.id, self.name.encode(), self._keys)

    @property
    def _keys(self) -> bytes:
        return self.nonce + self.mask_key + self.seal_key + self.verify_key


@dataclass(frozen=True)
class Party:
    """All nodes of a session as each of them must see them."""

    session: Session
    bundles: Mapping[str, Bundle]
    terms: Terms

    @classmethod
    def of(
        cls, session: Session, bundles: Iterable[Bundle], threshold: float, colluders: int
    ) -> Party:
        """Those whose keys came, in the order of their names.

        Raises:
            SecureError: one name twice, or too few nodes.
        """
        listed = sorted(bundles, key=lambda bundle: bundle.name)
        named = {bundle.name: bundle for bundle in listed}
        if len(named) != len(listed):
            raise SecureError("two nodes have one name: give every node a key of its own")
        terms = Terms(len(named), threshold, colluders)
        _ = terms.needed
        return cls(session, named, terms)

    @cached_property
    def transcript(self) -> bytes:
        """What everybody saw: nodes that were shown different keys cannot read each other."""
        parts = [bundle.packed().encode() for bundle in self.bundles.values()]
        about = json.dumps([self.terms.threshold, self.terms.colluders]).encode()
        return digest(b"mrff secure party 1", self.session.id, about, *parts)

    @cached_property
    def neighbours(self) -> Neighbourhoods:
        """By name, who holds shares of a node's secrets, itself included."""
        return Neighbourhoods(self.bundles, self.terms, self.transcript)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """By name, where a node's share of anybody's secret lies; from 1."""
        return {name: place for place, name in enumerate(self.bundles, start=1)}

    def survivors_digest(self, survivors: Iterable[str]) -> bytes:
        """What nodes sign before anything is opened."""
        names = [name.encode() for name in sorted(survivors)]
        return digest(b"mrff secure survivors 1", self.transcript, *names)

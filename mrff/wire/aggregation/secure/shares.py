"""A node's half of a secure sum: keys, shares, masks, and what it gives to open the sum.

Stages, after Bonawitz et al. (CCS 2017) and Bell et al. (CCS 2020): every node shows fresh keys;
gives its neighbours sealed shares of two secrets, of the masks it shares with others and of a mask
of its own; sends its vector under all of them; signs the list of those whose vectors came; and
opens, once enough others signed the same list, the own mask of who is on it and the shared masks
of who is not. Never both of one node.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from mrff.wire.aggregation.secure.encoding import Vectors
from mrff.wire.aggregation.secure.primitives import (
    KEY_BYTES,
    SecureError,
    add_keystream,
    agreed_key,
    derived_key,
    is_signed,
    public_of,
    sealed,
    signature,
    unsealed,
    verify_key_of,
)
from mrff.wire.aggregation.secure.session import Bundle, Party, Roster, Session
from mrff.wire.aggregation.secure.sharing import SHARE_BYTES, shares_of

SHARED_MASK, OWN_MASK = "mask", "own mask"  # purposes of keys
Names = set[str]


@dataclass(frozen=True)
class Identity:
    """Who a node is, whatever the session; ``roster`` None: it believes whom the server shows."""

    name: str
    signing_key: bytes
    roster: Roster | None = None

    @classmethod
    def fresh(cls, name: str) -> Identity:
        """Of a simulation, where nobody has keys."""
        return cls(name, secrets.token_bytes(KEY_BYTES))


@dataclass
class Secrets:
    """What a node has to remember between the stages of one session."""

    identity: Identity
    session: Session
    mask_key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    seal_key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    own_mask: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))
    party: Party | None = None
    held: dict[str, bytes] = field(default_factory=dict)  # by node: shares of both of its secrets
    question: bytes = b""  # what the sum is about, whoever takes part

    def bundle(self) -> Bundle:
        """Stage 1: what everybody may see."""
        who = self.identity
        publics = (public_of(self.mask_key), public_of(self.seal_key))
        bundle = Bundle(who.name, self.nonce, *publics, verify_key_of(who.signing_key))
        return bundle.signed(self.session, who.signing_key)

    def share(self, party: Party) -> dict[str, bytes]:
        """Stage 2: sealed shares by receiver; the node's own stay here.

        Raises:
            SecureError: keys that are not those of the nodes, or not the ones shown before.
        """
        for bundle in party.bundles.values():
            bundle.check(self.session, self.identity.roster)
        shown, own = party.bundles.get(self.identity.name), self.bundle()
        if shown != own:
            raise SecureError(f"the keys shown for node {own.name!r} are not those it sent")
        self.party = party
        members, needed = party.neighbours[own.name], party.terms.needed
        places = [party.places[name] for name in members]
        halves = [shares_of(s, places, needed) for s in (self.mask_key, self.own_mask)]
        found = {}
        for name in members:
            share = halves[0][party.places[name]] + halves[1][party.places[name]]
            if name == own.name:
                self.held[name] = share
            else:
                key, about = self._seal(party, own.name, name)
                found[name] = sealed(key, share, about)
        return found

    def receive(self, shares: Mapping[str, bytes]) -> None:
        """Before stage 3: sealed shares of others, by sender.

        Raises:
            SecureError: one was changed or is of another session, or too few came.
        """
        party = self._known()
        own = self.identity.name
        near = set(party.neighbours[own]) - {own}
        for name, content in shares.items():
            if name not in near:
                raise SecureError(f"node {name!r} shares nothing with this node")
            key, about = self._seal(party, name, own)
            self.held[name] = unsealed(key, content, about)
        if len(self.held) < party.terms.needed:
            raise SecureError(
                f"shares of {len(self.held)} nodes came, {party.terms.needed} are needed"
            )

    def mask(self, vectors: Vectors) -> Vectors:
        """Stage 3: the vectors, which are changed, under the node's own and all shared masks."""
        party, own = self._known(), self.identity.name
        add_mask(vectors, derived_key(self.own_mask, party.transcript, OWN_MASK))
        for name in self.held.keys() - {own}:
            key = agreed_key(
                self.mask_key, party.bundles[name].mask_key, party.transcript, SHARED_MASK
            )
            add_mask(vectors, key, subtract=name < own)
        return vectors

    def sign(self, survivors: Names) -> bytes:
        """Stage 4: the list of those whose vectors came.

        Raises:
            SecureError: this node is not on it, or too few are.
        """
        party = self._known()
        near = survivors & set(party.neighbours[self.identity.name])
        if self.identity.name not in survivors or not survivors <= party.bundles.keys():
            raise SecureError("the list of survivors is not of this sum, or lacks this node")
        if len(near) < party.terms.needed:
            raise SecureError(
                f"{len(near)} nodes are left, {party.terms.needed} are needed: nothing is opened"
            )
        if len(survivors) < party.terms.survivors:
            raise SecureError(
                f"{len(survivors)} nodes are left of all, {party.terms.survivors} are needed: "
                "nothing is opened"
            )
        return signature(self.identity.signing_key, party.survivors_digest(survivors))

    def open(self, survivors: Names, signatures: Mapping[str, bytes]) -> dict[str, bytes]:
        """Stage 5: by node, the share of its own mask if its vector came, else of its mask key.

        Raises:
            SecureError: fewer nodes than needed have signed this list.
        """
        self.sign(survivors)  # checks it
        party, own = self._known(), self.identity.name
        content = party.survivors_digest(survivors)
        equal = {
            name
            for name in party.neighbours[own]
            if name in survivors
            and is_signed(party.bundles[name].verify_key, content, signatures.get(name, b""))
        }
        if len(equal) < party.terms.needed:
            raise SecureError(
                f"{len(equal)} nodes have signed this list of survivors, {party.terms.needed} are "
                "needed: another list may be about, nothing is opened"
            )
        return {
            name: share[SHARE_BYTES:] if name in survivors else share[:SHARE_BYTES]
            for name, share in self.held.items()
        }

    def _known(self) -> Party:
        if self.party is None:
            raise SecureError("this node has shared nothing in this session")
        return self.party

    def _seal(self, party: Party, sender: str, receiver: str) -> tuple[bytes, bytes]:
        """Key and associated data of what one node has for another."""
        other = receiver if sender == self.identity.name else sender
        about = party.transcript + sender.encode() + b"\0" + receiver.encode()
        public = party.bundles[other].seal_key
        return agreed_key(self.seal_key, public, about, "seal"), about


def add_mask(vectors: Vectors, key: bytes, *, subtract: bool = False) -> None:
    """Adds the mask of ``key`` to both vectors, in place."""
    for part, name in ((vectors.numbers, "numbers"), (vectors.arrays, "arrays")):
        add_keystream(part, derived_key(key, b"", name), subtract=subtract)

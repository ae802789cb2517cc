"""The server's half of a secure sum: masked vectors added up, and what is left of masks removed.

What it learns is the sum over the survivors. The masks that nodes share cancel, but for those with
a node whose vector did not come; these, and every survivor's own, are rebuilt from shares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from mrff.wire.aggregation.secure.encoding import SumLayout, Vectors
from mrff.wire.aggregation.secure.primitives import (
    SecureError,
    agreed_key,
    derived_key,
    public_of,
)
from mrff.wire.aggregation.secure.session import Party
from mrff.wire.aggregation.secure.shares import OWN_MASK, SHARED_MASK, add_mask
from mrff.wire.aggregation.secure.sharing import SHARE_BYTES, secret_of


class Opening:
    """One sum, stage by stage.

    Args:
        party: all nodes whose keys came.
        layout: of the vectors.
    """

    def __init__(self, party: Party, layout: SumLayout) -> None:
        layout.check_nodes(len(party.bundles))
        self.party, self.layout = party, layout
        self.shared: dict[str, dict[str, bytes]] = {}  # by sender: sealed shares by receiver
        self.survivors: set[str] = set()
        self._sum = layout.zeros()
        self._shares: dict[str, dict[int, bytes]] = defaultdict(dict)

    def take_shares(self, sender: str, shares: Mapping[str, bytes]) -> None:
        """Of stage 2, to be handed on.

        Raises:
            SecureError: they are not for exactly the sender's neighbours.
        """
        if shares.keys() != set(self.party.neighbours[sender]) - {sender}:
            raise SecureError("the shares are not for exactly the node's neighbours")
        self.shared[sender] = dict(shares)

    def shares_for(self, receiver: str) -> dict[str, bytes]:
        """By sender, those of neighbours who take part."""
        near = self.party.neighbours[receiver]
        return {n: self.shared[n][receiver] for n in near if n != receiver and n in self.shared}

    def add(self, name: str, vectors: Vectors) -> None:
        """Of stage 3.

        Raises:
            SecureError: wrong lengths or types, or a node that shared nothing.
        """
        for found, wanted in (
            (vectors.numbers, self._sum.numbers),
            (vectors.arrays, self._sum.arrays),
        ):
            if found.shape != wanted.shape or found.dtype != wanted.dtype:
                raise SecureError(
                    f"a masked vector has {found.size} elements of {found.dtype}, wanted are "
                    f"{wanted.size} of {wanted.dtype}"
                )
        if name not in self.shared or name in self.survivors:
            raise SecureError(f"no vector of node {name!r} is wanted")
        self._sum += vectors
        self.survivors.add(name)

    def take_opened(self, name: str, shares: Mapping[str, bytes]) -> None:
        """Of stage 5.

        Raises:
            SecureError: wrong lengths, or shares of nodes that are not its neighbours.
        """
        near = set(self.party.neighbours[name]) & self.shared.keys()
        if not shares.keys() <= near or any(len(s) != SHARE_BYTES for s in shares.values()):
            raise SecureError("the shares that were opened are not those of its neighbours")
        for owner, share in shares.items():
            self._shares[owner][self.party.places[name]] = share

    def opened(self) -> Vectors:
        """The sum of the survivors' vectors, without masks.

        Raises:
            SecureError: too few shares, or shares that are not of one secret.
        """
        for key, subtract in self._masks_left():
            add_mask(self._sum, key, subtract=subtract)
        return self._sum

    def _masks_left(self) -> Iterator[tuple[bytes, bool]]:
        """Keys, and whether their mask is to be taken off or to be added."""
        party, needed = self.party, self.party.terms.needed
        for name in sorted(self.survivors):
            secret = secret_of(self._shares[name], needed)
            yield derived_key(secret, party.transcript, OWN_MASK), True
        for name in sorted(self.shared.keys() - self.survivors):
            near = set(party.neighbours[name]) & self.survivors
            if not near:
                continue
            private = secret_of(self._shares[name], needed)
            if public_of(private) != party.bundles[name].mask_key:
                raise SecureError(f"the shares of node {name!r} do not give its key")
            for other in sorted(near):
                public = party.bundles[other].mask_key
                key = agreed_key(private, public, party.transcript, SHARED_MASK)
                yield key, name >= other  # the survivor subtracted where the other is smaller

"""Who shares masks and secrets with whom, and how many it takes to open a sum.

Up to 64 nodes everybody with everybody (Bonawitz et al., CCS 2017). Above, every node has 100
neighbours in a ring whose order nobody knows before all keys are there (Bell et al., CCS 2020):
masks and shares of a node do not grow with their number, only the keys that it checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mrff.wire.aggregation.secure.primitives import SecureError, digest

COMPLETE_UP_TO = 64
NEIGHBOURS = 100
_UNLIKELY = 1e-9  # that more colluding nodes than reckoned with meet in one neighbourhood


@dataclass(frozen=True)
class Terms:
    """What all nodes of a sum have to agree on.

    Args:
        nodes: n, who sent keys.
        threshold: share of a neighbourhood that has to be left, in (0.5, 1].
        colluders: c, nodes that may help the server.
    """

    nodes: int
    threshold: float
    colluders: int

    @property
    def neighbourhood(self) -> int:
        """Nodes in it, the one in its middle included."""
        return self.nodes if self.nodes <= COMPLETE_UP_TO else min(NEIGHBOURS + 1, self.nodes)

    @property
    def needed(self) -> int:
        """t: members of a neighbourhood whose answers open a secret of it.

        Two survivor lists would need 2 t signatures. Honest nodes sign one list, so with more than
        half of the honest and all of the colluding nodes t is out of reach for the second. And a
        sum of fewer than two honest nodes would be no sum.

        Raises:
            SecureError: no such number of nodes exists.
        """
        return self._needed(self.neighbourhood, self._colluders_near)

    @property
    def survivors(self) -> int:
        """Nodes that have to be left of all; up to 64 of them that is `needed`."""
        return self._needed(self.nodes, self.colluders)

    @property
    def honest(self) -> int:
        """Nodes that are left at least and tell the server nothing, this one included."""
        return self.survivors - self.colluders

    def _needed(self, size: int, colluders: int) -> int:
        needed = max(
            math.ceil(self.threshold * size - 1e-9), (size + colluders) // 2 + 1, colluders + 2
        )
        if needed > size:
            raise SecureError(
                f"{self.nodes} nodes cannot hide anybody from a server with {self.colluders} "
                f"colluding nodes: {needed} of {size} would be needed; let more nodes take part, "
                "or lower privacy.secure-colluders"
            )
        return needed

    @property
    def _colluders_near(self) -> int:
        """At most how many of the colluding nodes are in one neighbourhood."""
        size = self.neighbourhood
        if size == self.nodes or not self.colluders:
            return self.colluders
        from scipy.stats import hypergeom  # only large federations need it

        one = _UNLIKELY / self.nodes
        return int(hypergeom.isf(one, self.nodes, min(self.colluders, self.nodes), size))


class Neighbourhoods:
    """By name, who holds shares of a node's secrets: its neighbours and itself, in order.

    All nodes see the same ones; who looks one up pays for no other. The ring is in the order of
    digests, which no version of a library changes.

    Args:
        names: of all nodes of the sum.
        seed: fixed by the keys of all of them.
    """

    def __init__(self, names: Iterable[str], terms: Terms, seed: bytes) -> None:
        self._all = terms.neighbourhood >= terms.nodes
        self._half = (terms.neighbourhood - 1) // 2
        self._ring = (
            sorted(names)
            if self._all
            else sorted(names, key=lambda name: digest(seed + name.encode()))
        )
        self._places = {name: place for place, name in enumerate(self._ring)}

    def __getitem__(self, name: str) -> Sequence[str]:
        place = self._places[name]
        if self._all:
            return self._ring
        steps = range(-self._half, self._half + 1)
        return sorted(self._ring[(place + step) % len(self._ring)] for step in steps)

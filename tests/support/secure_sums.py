"""Nodes of a secure sum without messages: every stage by hand, so that a test can break it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrff.sums import CohortSums, Expected, Quantity
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.aggregation.secure.encoding import SumLayout, Vectors
from mrff.wire.aggregation.secure.opening import Opening
from mrff.wire.aggregation.secure.session import Party, Session
from mrff.wire.aggregation.secure.shares import Identity, Secrets

SIZE = 40
EXPECTED = Expected({"a": (SIZE,)}, {"users": Quantity(whole=True), "loss": Quantity()})


def layout(**bits: int) -> SumLayout:
    """Of `EXPECTED`, values up to 1."""
    return SumLayout.of(EXPECTED, {"a": 1.0}, **({"ring_bits": 32, "value_bits": 20} | bits))


def sums_of(place: int) -> CohortSums:
    """What the node at ``place`` knows."""
    random = np.random.default_rng(place)
    numbers: dict[str, Any] = {"users": place + 1, "loss": 0.5 * place}
    return CohortSums({"a": random.uniform(-1, 1, SIZE)}, as_numbers(numbers))


@dataclass
class Circle:
    """Nodes of one session, and the server's half."""

    nodes: dict[str, Secrets]
    opening: Opening

    @property
    def party(self) -> Party:
        """As the server knows it."""
        return self.opening.party

    def send(self, names: Iterable[str]) -> dict[str, Vectors]:
        """Stage 3 of these nodes."""
        sent = {}
        for name in names:
            node = self.nodes[name]
            node.receive(self.opening.shares_for(name))
            vectors = self.opening.layout.encoded(sums_of(place_of(name)))
            sent[name] = node.mask(vectors)
            self.opening.add(name, sent[name])
        return sent

    def open(self, names: Iterable[str]) -> CohortSums:
        """Stages 4 and 5, in which these nodes still answer."""
        survivors, names = self.opening.survivors, list(names)
        signatures = {name: self.nodes[name].sign(survivors) for name in names}
        for name in names:
            self.opening.take_opened(name, self.nodes[name].open(survivors, signatures))
        return self.opening.layout.decoded(self.opening.opened(), len(survivors))


def place_of(name: str) -> int:
    """Of a node's name."""
    return int(name.removeprefix("node-"))


def circle(
    number: int,
    *,
    sharing: Iterable[int] | None = None,
    session: Session | None = None,
    terms: Mapping[str, float] | None = None,
    **bits: int,
) -> Circle:
    """So many nodes whose keys came, of whom ``sharing`` (all, if not given) have shared."""
    session = session or Session("t", "train", 1, 7)
    fresh = [Identity.fresh(f"node-{place}") for place in range(number)]
    nodes = {who.name: Secrets(who, session) for who in fresh}
    wanted = {"threshold": 0.6, "colluders": 0} | dict(terms or {})
    bundles = [node.bundle() for node in nodes.values()]
    party = Party.of(session, bundles, wanted["threshold"], int(wanted["colluders"]))
    opening = Opening(party, layout(**bits))
    for place in range(number) if sharing is None else sharing:
        name = f"node-{place}"
        opening.take_shares(name, nodes[name].share(party))
    return Circle(nodes, opening)


def total_of(places: Iterable[int]) -> CohortSums:
    """The plain sum."""
    total = CohortSums()
    for place in places:
        total += sums_of(place)
    return total

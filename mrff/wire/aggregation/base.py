"""The seam between a node's sums and the server's: training and evaluation both go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict

from mrff.sums import CohortSums, Expected
from mrff.wire.replies import Reply
from mrff.wire.traffic import Traffic


class RoundFailedError(RuntimeError):
    """A round or an evaluation that cannot count; the model is as it was before."""


@dataclass(frozen=True)
class Asked:
    """What a phase asked of nodes.

    Args:
        phase: its name, for errors.
        round: that replies have to answer.
        expected: of every reply.
        check: raises BadReplyError for sums that are well formed and still impossible.
        min_fraction: share of the nodes asked whose replies must count; at least one must.
    """

    phase: str
    round: int
    expected: Expected
    check: Callable[[CohortSums], None]
    min_fraction: float = 0.5


@runtime_checkable
class Exchanged(Protocol):
    """Replies of an exchange under way; a list of messages will do as well."""

    sent: int
    missing: list[int]

    def node_of(self, reply: Message) -> int:
        """The node that was asked."""
        ...

    def __iter__(self) -> Iterator[Message]: ...


class Aggregation(Protocol):
    """Server half `collect`, client half `submit`."""

    def collect(self, replies: Iterable[Message], asked: Asked) -> tuple[CohortSums, Traffic]:
        """The sum over all nodes whose replies count, and who answered.

        Raises:
            RoundFailedError: too few replies count.
        """
        ...

    def submit(self, reply: Reply) -> RecordDict:
        """What leaves the node."""
        ...

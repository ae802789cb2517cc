"""The seam between a node's sums and the server's: training and evaluation both go through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flwr.app import Message, RecordDict

from mrff.config import RunConfig
from mrff.sums import CohortSums, Expected
from mrff.wire.records import Arrays
from mrff.wire.replies import Reply
from mrff.wire.requests import Request
from mrff.wire.traffic import Traffic

_LONGEST = 1000  # letters of a reason: a node may say anything
_FLOWERS = re.compile(
    r"<class '[^']*'>:<'?\s*(?:Exception \w+ occurred\. Message:\s*)*(.*?)'?>", re.DOTALL
)


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
        exact: arrays are sums of counts and weights, which must not be rounded.
        roundable: the model that is asked about, and arrays of replies, may be rounded.
    """

    phase: str
    round: int
    expected: Expected
    check: Callable[[CohortSums], None]
    min_fraction: float = 0.5
    exact: bool = False
    roundable: bool = False


@runtime_checkable
class Exchanged(Protocol):
    """Replies of an exchange under way; a list of messages will do as well."""

    sent: int
    missing: list[int]

    def node_of(self, reply: Message) -> int:
        """The node that was asked."""
        ...

    def __iter__(self) -> Iterator[Message]: ...


Send = Callable[[list[Message]], Iterable[Message]]
"""Sends messages and hands out replies; see `Exchanged`."""


@dataclass(frozen=True)
class ModelCopy:
    """What nodes have of the server's model where they are sent less than that.

    Args:
        arrays: by name; none: they have nothing yet.
        of: the digest of the server's own.
    """

    arrays: Arrays = field(default_factory=dict)
    of: str = ""


@dataclass(frozen=True)
class NodeSide:
    """What the client half may know of a node.

    Args:
        config: of the run.
        node_config: the node's own.
        training_folder: of its state in this training.
        folder: of its state in all trainings.
    """

    config: RunConfig
    node_config: Mapping[str, Any]
    training_folder: Path
    folder: Path

    @property
    def shared_folder(self) -> Path:
        """Of this training too; in a simulation all nodes have the same."""
        own = "state-dir" in self.node_config
        return self.training_folder if own else self.training_folder.parent


class ServerSums(Protocol):
    """Server half. ``copy`` is for checkpoints: with it a resumed run goes on bit for bit."""

    copy: ModelCopy

    def exchange(self, send: Send, messages: list[Message], asked: Asked) -> Iterable[Message]:
        """Sends what a phase asks, and whatever has to go before it.

        Where other messages go instead, ``messages`` become those: their bytes are counted.

        Raises:
            RoundFailedError: the phase cannot take place.
        """
        ...

    def collect(self, replies: Iterable[Message], asked: Asked) -> tuple[CohortSums, Traffic]:
        """The sum over all nodes whose replies count, and who answered.

        Args:
            replies: as `exchange` has handed them out.

        Raises:
            RoundFailedError: too few replies count.
        """
        ...


class ClientSums(Protocol):
    """Client half."""

    def received(self, request: Request, content: RecordDict) -> Request:
        """What ``content`` asks, with what the node has kept of earlier messages."""
        ...

    def submit(self, content: RecordDict, work: Callable[[int], Reply]) -> RecordDict:
        """What leaves the node in answer to the request ``content``; ``work`` gives its sums.

        It is told how many honest nodes there are at least in whatever the server will see.
        """
        ...


class Aggregation(Protocol):
    """One way from nodes' sums to the server's; an object in `AGGREGATIONS`."""

    def server(self, config: RunConfig) -> ServerSums:
        """For one run."""
        ...

    def client(self, node: NodeSide) -> ClientSums:
        """For one message.

        Raises:
            ConfigError: the node cannot or will not take part.
        """
        ...


def reason_of(message: Message) -> str:
    """Why a node answers with an error: its own words in one line, without Flower's around them."""
    said = (message.error.reason or "error without a reason").strip()
    around = _FLOWERS.fullmatch(said)
    line = " ".join((around[1] if around else said).split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


def reasons_of(traffic: Traffic) -> list[str]:
    """Of all rejections, each reason once; the three that most nodes gave."""
    nodes: dict[str, list[int]] = {}
    for rejection in traffic.rejected:
        nodes.setdefault(rejection.reason, []).append(rejection.node)
    return [
        f"node {given[0]}{f' and {len(given) - 1} more' if given[1:] else ''}: {reason}"
        for reason, given in sorted(nodes.items(), key=lambda item: -len(item[1]))[:3]
    ]

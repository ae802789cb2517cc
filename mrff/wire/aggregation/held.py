"""Arrays that nodes hold already travel as digests: what no round moves, and the model before.

What a node keeps is found by its content, so nothing is taken on trust: a node reads it against the
digest, and says so where it lacks it. The server then sends it whole. That happens to a node that
has lost its disk or missed a round, or to another worker of a simulation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from logging import getLogger
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from mrff.io.files import write_bytes
from mrff.wire.aggregation.base import Exchanged, Send
from mrff.wire.packing import FORMAT, pack, unpack
from mrff.wire.records import Arrays, arrays_in, packed_in, record_of_block
from mrff.wire.replies import HEADER
from mrff.wire.requests import FIXED, MODEL, RequestError
from mrff.wire.rounding import ROUNDINGS

HELD, DELTA, LACKS = "held", "delta", "lacks"  # records: digests, changes of a model, a digest
BECOMES = "becomes"  # the digest of a model with its changes
FOLDER = "held"  # in that of a training: another server learns nothing by naming digests
log = getLogger("flwr")
KEPT = 3  # blocks of a kind, the latest; an older one is sent again to whoever lacks it


class LacksError(RequestError):
    """What the request names by digest is not here: it has to be sent whole."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"this node does not hold the arrays {digest}")
        self.content = RecordDict({LACKS: ConfigRecord({"digest": digest})})


@dataclass(frozen=True)
class Part:
    """Packed arrays of a request, and what they are a change of.

    Args:
        name: of the record that holds them whole.
        block: them whole.
        base: the digest of what ``delta`` changes into them; empty: there is none.
        delta: rounded changes.
    """

    name: str
    block: bytes
    base: str = ""
    delta: ArrayRecord | None = None

    @cached_property
    def digest(self) -> str:
        """Names them."""
        return sha256(self.block).hexdigest()


class HeldArrays:
    """What a node keeps, in ``folder``; its nodes share it where one process answers for many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def arrays_of(self, content: RecordDict) -> Arrays:
        """The arrays that a request names; those that it holds are kept for the next one.

        Raises:
            LacksError: they are not here, or damaged.
            RequestError: it names no digest, or changes do not fit.
        """
        named, arrays = _digests_in(content), Arrays()
        for name in (FIXED, MODEL):
            came = packed_in(content.get(name))
            if came is not None:
                self._keep(Part(name, came.data))
            elif name in named:
                block = self._block(name, named[name])
                if name == MODEL and DELTA in content:
                    block = self._changed(block, content, named)
                arrays |= unpack(block)
        return arrays

    def _changed(self, block: bytes, content: RecordDict, named: dict[str, str]) -> bytes:
        """The block with its changes, which never unpack to more than it."""
        most = len(block) + HEADER
        base, delta = unpack(block), arrays_in(content, DELTA, wanted=ROUNDINGS, most=most)
        if {n: a.shape for n, a in delta.items()} != {n: a.shape for n, a in base.items()}:
            raise RequestError("changes of a model have other arrays than the model")
        part = Part(MODEL, pack(moved(base, delta)))
        if part.digest != named.get(BECOMES):
            raise LacksError(named.get(BECOMES, ""))  # another machine's arithmetic
        self._keep(part)
        return part.block

    def _block(self, name: str, digest: str) -> bytes:
        path = self._folder / name / digest
        try:
            block = path.read_bytes()
        except OSError:
            raise LacksError(digest) from None
        if Part(name, block).digest != digest:
            path.unlink(missing_ok=True)
            raise LacksError(digest)
        return block

    def _keep(self, part: Part) -> None:
        """A node whose disk is full answers all the same, and is sent the next one whole."""
        folder = self._folder / part.name
        if (folder / part.digest).exists():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / part.digest, part.block)
            for older in _by_age(folder)[:-KEPT]:
                older.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the model cannot be kept, it will come whole again: %s", error)


class Holders:
    """What the server knows of who holds what, in one run."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[int]] = {}

    def exchange(
        self, send: Send, messages: list[Message], parts: Sequence[Part]
    ) -> Iterable[Message]:
        """Sends every node what it does not hold of ``parts``.

        ``messages``, which have everything else, become those that were sent: whoever counts bytes
        counts theirs.
        """
        if not parts or not messages:
            return send(messages)
        known = {p.digest for p in parts} | {p.base for p in parts}
        self._nodes = {d: self._nodes.get(d, set()) for d in known}
        rest, made = messages[0].content, dict[tuple[str, ...], RecordDict]()
        for message in messages:
            ways = tuple(self._way(part, message.metadata.dst_node_id) for part in parts)
            if ways not in made:
                made[ways] = _content(rest, parts, ways)
            message.content = made[ways]
        holders = [self._nodes[part.digest] for part in parts]
        whole = _content(rest, parts, [""] * len(parts))
        return _Completed(send, messages, whole, holders)

    def _way(self, part: Part, node: int) -> str:
        """The digest that the node is told; empty: it is sent the whole."""
        for digest in (part.digest, part.base):
            if digest and node in self._nodes[digest]:
                return digest
        return ""


class _Completed:
    """Replies to requests that were whole or named digests; see `Exchanged`."""

    def __init__(
        self, send: Send, messages: list[Message], whole: RecordDict, holders: list[set[int]]
    ) -> None:
        self._send, self._messages, self._whole = send, messages, whole
        self._holders, self._first = holders, send(list(messages))
        self.sent, self.missing = len(messages), list[int]()
        self._again: Iterable[Message] = []

    def node_of(self, reply: Message) -> int:
        """The node that was asked."""
        asked = [e.node_of(reply) for e in (self._again, self._first) if isinstance(e, Exchanged)]
        source = reply.metadata.src_node_id
        return next((node for node in asked if node != source), source)

    def __iter__(self) -> Iterator[Message]:
        lacking: set[int] = set()
        for reply in self._noted(self._first):
            if reply.has_content() and LACKS in reply.content:
                lacking.add(self.node_of(reply))
            else:
                yield reply
        again = [self._whole_for(m) for m in self._messages if m.metadata.dst_node_id in lacking]
        if again:
            self._messages.extend(again)
            self._again = self._send(list(again))
            yield from self._noted(self._again)

    def _whole_for(self, message: Message) -> Message:
        about = message.metadata
        node, kind = about.dst_node_id, about.message_type
        return Message(self._whole, node, kind, group_id=about.group_id, ttl=about.ttl)

    def _noted(self, exchange: Iterable[Message]) -> Iterator[Message]:
        """Its replies; whoever answers holds the arrays, but those who say that they do not."""
        for reply in exchange:
            if reply.has_content():
                for nodes in self._holders:
                    lacks = LACKS in reply.content
                    (nodes.discard if lacks else nodes.add)(self.node_of(reply))
            yield reply
        if isinstance(exchange, Exchanged):
            self.missing += exchange.missing


def moved(base: Arrays, delta: Arrays) -> Arrays:
    """A model with its changes: on server and nodes the same to the last bit."""
    return {name: base[name] + delta[name] for name in base}


def _content(rest: RecordDict, parts: Sequence[Part], ways: Sequence[str]) -> RecordDict:
    """The request for a node that holds what ``ways`` name; see `Holders._way`."""
    content, named = RecordDict(dict(rest)), dict[str, str]()
    for part, digest in zip(parts, ways, strict=True):
        if not digest:
            content[part.name] = record_of_block(part.block, FORMAT)
            continue
        named[part.name] = digest
        if digest == part.base and part.delta is not None:
            content[DELTA], named[BECOMES] = part.delta, part.digest
    if named:
        content[HELD] = ConfigRecord(dict(named))
    return content


def _by_age(folder: Path) -> list[Path]:
    """The blocks in it, the oldest first; another process may take some away meanwhile."""
    found = []
    for path in folder.iterdir():
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue
    return [path for _, path in sorted(found) if _is_digest(path.name)]


def _is_digest(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[0-9a-f]{64}", name) is not None


def _digests_in(content: RecordDict) -> dict[str, str]:
    record = content.get(HELD, ConfigRecord())
    named = dict(record) if isinstance(record, ConfigRecord) else {HELD: record}
    for name, digest in named.items():
        if name not in (FIXED, MODEL, BECOMES) or not _is_digest(digest):
            raise RequestError(f"held arrays must be named by their digest, got {name}={digest!r}")
    return {name: str(digest) for name, digest in named.items()}

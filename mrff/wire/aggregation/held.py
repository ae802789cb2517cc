"""Arrays that no round moves travel once: a node keeps them, later messages name their digest.

What is kept is found by its content, so nothing is taken on trust: a node reads what it keeps
against the digest, and says so where it lacks it. The server then sends it whole. That happens to a
node that has lost its disk, or another worker of a simulation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict

from mrff.io.files import write_bytes
from mrff.wire.aggregation.base import Exchanged, Send
from mrff.wire.packing import unpack
from mrff.wire.records import Arrays, packed_in
from mrff.wire.requests import FIXED, RequestError

HELD, LACKS = "held", "lacks"  # records of a request and of a reply: a digest
FOLDER = "held"  # in a node's folder
KEPT = 4  # blocks, the latest; an older one is sent again to whoever lacks it


class LacksError(RequestError):
    """What the request names by digest is not here: it has to be sent whole."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"this node does not hold the arrays {digest}")
        self.content = RecordDict({LACKS: ConfigRecord({"digest": digest})})


class HeldArrays:
    """What a node keeps, in ``folder``; its nodes share it where one process answers for many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def arrays_of(self, content: RecordDict) -> Arrays:
        """The fixed arrays that a request names; none if it holds them itself: they are kept.

        Raises:
            LacksError: they are not here, or damaged.
            RequestError: it names no digest.
        """
        came = packed_in(content.get(FIXED))
        if came is not None:
            self._keep(came.data)
            return {}
        if HELD not in content:
            return {}
        digest = _digest_in(content)
        try:
            block = (self._folder / digest).read_bytes()
        except FileNotFoundError:
            raise LacksError(digest) from None
        if _digest(block) != digest:
            (self._folder / digest).unlink(missing_ok=True)
            raise LacksError(digest)
        return unpack(block)

    def _keep(self, block: bytes) -> None:
        path = self._folder / _digest(block)
        if path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, block)
        kept = [(p.stat().st_mtime_ns, p) for p in self._folder.iterdir() if _is_digest(p.name)]
        for _, older in sorted(kept)[:-KEPT]:
            older.unlink(missing_ok=True)


class Holders:
    """What the server knows of who holds what, in one run."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[int]] = {}

    def exchange(self, send: Send, messages: list[Message]) -> Iterable[Message]:
        """Sends what is fixed to nodes that do not hold it, and its digest to the others.

        ``messages`` become those that were sent, for whoever counts their bytes.
        """
        whole = messages[0].content if messages else RecordDict()
        fixed = packed_in(whole.get(FIXED))
        if fixed is None:
            return send(messages)
        digest = _digest(fixed.data)
        named = RecordDict({name: record for name, record in whole.items() if name != FIXED})
        named[HELD] = ConfigRecord({"digest": digest})
        holders = self._nodes.setdefault(digest, set())
        for message in messages:
            if message.metadata.dst_node_id in holders:
                message.content = named
        return _Completed(send, messages, whole, holders)


class _Completed:
    """Replies to requests that were whole or named a digest; see `Exchanged`."""

    def __init__(
        self, send: Send, messages: list[Message], whole: RecordDict, holders: set[int]
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
        lacking = {}
        for reply in self._first:
            node = self.node_of(reply)
            if reply.has_content() and LACKS in reply.content:
                lacking[node] = reply
                self._holders.discard(node)
                continue
            if reply.has_content():
                self._holders.add(node)
            yield reply
        self._note_missing(self._first)
        again = [self._whole_for(m) for m in self._messages if m.metadata.dst_node_id in lacking]
        if again:
            self._messages.extend(again)
            self._again = self._send(list(again))
            yield from self._again
            self._note_missing(self._again)

    def _whole_for(self, message: Message) -> Message:
        about = message.metadata
        node, kind = about.dst_node_id, about.message_type
        return Message(self._whole, node, kind, group_id=about.group_id, ttl=about.ttl)

    def _note_missing(self, exchange: Iterable[Message]) -> None:
        if isinstance(exchange, Exchanged):
            self.missing += exchange.missing


def _digest(block: bytes) -> str:
    return sha256(block).hexdigest()


def _is_digest(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[0-9a-f]{64}", name) is not None


def _digest_in(content: RecordDict) -> str:
    record = content[HELD]
    digest = record.get("digest") if isinstance(record, ConfigRecord) else None
    if not isinstance(digest, str) or not _is_digest(digest):
        raise RequestError(f"held arrays must be named by their digest, got {digest!r}")
    return digest

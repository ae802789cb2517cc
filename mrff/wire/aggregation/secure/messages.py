"""What travels for a secure sum beside the request it belongs to."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from mrff.wire.aggregation.secure.encoding import Vectors
from mrff.wire.aggregation.secure.primitives import SecureError, digest
from mrff.wire.aggregation.secure.session import Session
from mrff.wire.packing import FORMAT, PACKED, pack, unpack

KEYS, SHARES, UNMASK = "query.secure_keys", "query.secure_shares", "query.secure_unmask"
RECORD = "secure"
Contents = Mapping[str, bytes]


@dataclass(frozen=True)
class StageRequest:
    """One stage's question to one node.

    Args:
        bundles: keys of all nodes, packed: stage 2.
        layout: of the sum, packed: stage 3.
        survivors: whose vectors came: stages 4 and 5.
        contents: by node, sealed shares (stage 3) or signatures (stage 5).
    """

    session: Session
    bundles: list[str] = field(default_factory=list)
    layout: str = ""
    survivors: list[str] = field(default_factory=list)
    contents: Contents = field(default_factory=dict)

    def record(self) -> ConfigRecord:
        """As it travels."""
        names = list(self.contents)
        return ConfigRecord(
            {
                **asdict(self.session),
                "bundles": self.bundles,
                "layout": self.layout,
                "survivors": self.survivors,
                "names": names,
                "contents": [self.contents[name] for name in names],
            }
        )

    @classmethod
    def read(cls, content: RecordDict) -> StageRequest:
        """The inverse of `record`.

        Raises:
            SecureError: it is missing, or not what it should be.
        """
        try:
            record: dict[str, Any] = dict(content.config_records[RECORD])
            session = Session(*(record.pop(key) for key in asdict(Session("", "", 0, 0))))
            found = dict(zip(record.pop("names"), record.pop("contents"), strict=True))
            return cls(session, contents=found, **record)
        except (KeyError, TypeError, ValueError) as error:
            raise SecureError(
                f"the request is not one for a secure sum ({error}): nothing leaves without masks"
            ) from error

    def digest(self) -> bytes:
        """Another one for another question."""
        texts = [self.session.id, self.layout.encode()]
        lists = [json.dumps([self.bundles, self.survivors]).encode()]
        named = [part for n in sorted(self.contents) for part in (n.encode(), self.contents[n])]
        return digest(*texts, *lists, *named)


def block_record(block: bytes) -> RecordDict:
    """A reply: one block of bytes."""
    return RecordDict({RECORD: ArrayRecord({PACKED: Array("uint8", (len(block),), FORMAT, block)})})


def block_of(content: RecordDict) -> bytes:
    """The inverse of `block_record`.

    Raises:
        SecureError: it holds anything else.
    """
    record = content.get(RECORD)
    if content.keys() != {RECORD} or not isinstance(record, ArrayRecord):
        raise SecureError("the reply is not masked")
    if record.keys() != {PACKED}:
        raise SecureError("the reply is not one block")
    return record[PACKED].data


def packed_vectors(vectors: Vectors) -> bytes:
    """Masked vectors as a block."""
    return pack({"numbers": vectors.numbers, "arrays": vectors.arrays})


def vectors_of(block: bytes) -> Vectors:
    """The inverse of `packed_vectors`.

    Raises:
        SecureError: it holds anything else.
    """
    try:
        found = unpack(block)
        return Vectors(found.pop("numbers"), found.pop("arrays"))
    except (KeyError, ValueError) as error:
        raise SecureError(f"the masked vector cannot be read: {error}") from error


def packed_contents(contents: Contents) -> bytes:
    """Shares by name as a block."""
    return json.dumps({n: b64encode(v).decode() for n, v in contents.items()}).encode()


def contents_of(block: bytes) -> dict[str, bytes]:
    """The inverse of `packed_contents`.

    Raises:
        SecureError: it holds anything else.
    """
    try:
        return {str(n): b64decode(v, validate=True) for n, v in json.loads(block).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise SecureError(f"shares cannot be read: {error}") from error

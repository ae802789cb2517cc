"""Writes a prepared folder: the catalogue at once, users and interactions chunk by chunk.

The content hash is taken over the columns' values as they pass: it does not depend on the size of
the chunks nor on how parquet encodes them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff.data.dataset import Dataset
from mrff.data.errors import DataError
from mrff.data.schema import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    RESERVED,
    USERS_FILE,
    Ancestor,
    Feature,
    RowKind,
    Schema,
)
from mrff.io.files import sync

Codes = NDArray[np.int32]  # (N,), or (N, width) with zeros behind the values of a row
Encoded = tuple[Feature, Codes]
_ROWS = pa.schema(
    [("user", pa.int32()), ("item", pa.int32()), ("label", pa.int8()), ("time", pa.int64())]
)


@dataclass(frozen=True)
class Entities:
    """Items in the order of their codes (entry 0 is code 1), or users: what is known of them."""

    ids: list[str]
    encoded: Sequence[Encoded]
    titles: list[str] | None = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Their features without the codes."""
        return tuple(feature for feature, _ in self.encoded)


@dataclass(frozen=True)
class UserChunk:
    """Some users with all their interactions, by user in this order, then by time."""

    ids: list[str]
    codes: dict[str, Codes]
    sizes: NDArray[np.int64]  # (users,) interactions of each
    items: NDArray[np.int32]  # (interactions,)
    labels: NDArray[np.int8]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, times: NDArray[np.int64]) -> UserChunk:
        """All users of a dataset that is prepared; ``times`` of its interactions."""
        return cls(
            ids=dataset.user_ids.tolist(),
            codes=dataset.user_features,
            sizes=np.diff(dataset.offsets),
            items=dataset.items,
            labels=dataset.labels,
            times=times,
        )


@dataclass(frozen=True)
class Prepared:
    """What a recipe makes of its source; ``dropped`` and ``facts`` may fill while chunks pass."""

    name: str
    label_rule: str
    items: Entities
    user_features: tuple[Feature, ...]
    chunks: Iterable[UserChunk]
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    facts: dict[str, Any] = field(default_factory=dict)  # anything else worth recording
    kind: RowKind = "labelled"
    repeats: bool = False  # see `Schema`
    extends: Schema | None = None  # of which it is the next version, and what is new in it
    grown: dict[str, int] = field(default_factory=dict)


def write_folder(
    prepared: Prepared, folder: Path, *, source: dict[str, Any], replaced: Schema | None = None
) -> Schema:
    """Writes the four files into an existing folder; ``schema.json`` comes last.

    Args:
        replaced: what it takes the place of: its people stay the same population.

    Raises:
        DataError: a user named twice, a reserved feature name, or nothing to write.
    """
    items = prepared.items
    if not items.ids:
        raise DataError(f"{prepared.name} has no items; nothing to prepare")
    for feature in (*items.features, *prepared.user_features):
        if feature.name in RESERVED:
            raise DataError(f"a feature cannot be named {feature.name!r}; rename it")
    _write_items(items, folder / ITEMS_FILE)
    counts, content_hash = write_users(folder, prepared.user_features, prepared.chunks)
    dropped = {reason: count for reason, count in prepared.dropped.items() if count}
    if not counts["interactions"]:
        reasons = "; ".join(f"{count} {reason}" for reason, count in dropped.items())
        why = f" (dropped: {reasons})" if reasons else ""
        raise DataError(f"{prepared.name} has no interactions to write{why}; check the source")
    schema = Schema(
        name=prepared.name,
        label_rule=prepared.label_rule,
        item_features=items.features,
        user_features=prepared.user_features,
        num_items=len(items.ids),
        catalogue_hash=_catalogue_hash(items),
        counts={"items": len(items.ids), **counts, "dropped": dropped, **_grown(prepared)},
        source={**source, **prepared.facts},
        content_hash=content_hash,
        kind=prepared.kind,
        repeats=prepared.repeats,
        **_people(replaced),
    )
    schema = replace(schema, ancestors=_ancestors(prepared.extends, schema))
    schema.save(folder)
    for path in folder.iterdir():
        sync(path)
    return schema


def _people(replaced: Schema | None) -> dict[str, Any]:
    if replaced is None:
        return {"population": str(uuid4())}
    if replaced.population:
        return {"population": replaced.population, "earlier": replaced.earlier}
    return {"population": str(uuid4()), "earlier": replaced.known_as}


def _ancestors(old: Schema | None, new: Schema) -> tuple[Ancestor, ...]:
    """Where only rows are new, the catalogue is the same version."""
    if old is None or old.schema_hash == new.schema_hash:
        return old.ancestors if old else ()
    return (*old.ancestors, old.as_ancestor)


def _grown(prepared: Prepared) -> dict[str, Any]:
    """What is new since the version before."""
    grown = {what: count for what, count in prepared.grown.items() if count}
    return {} if prepared.extends is None else {"grown": grown}


def write_users(
    folder: Path, features: tuple[Feature, ...], chunks: Iterable[UserChunk]
) -> tuple[dict[str, int], str]:
    """Writes ``users.parquet`` and ``interactions.parquet``.

    Returns:
        What they count to (users, interactions, positive, as in the schema), and their hash.

    Raises:
        DataError: a user named twice.
    """
    kinds = [(f.name, pa.list_(pa.int32()) if f.kind == "multi" else pa.int32()) for f in features]
    schema = pa.schema([("user_id", pa.string()), ("user_key", pa.uint64()), *kinds])
    counts = dict.fromkeys(("users", "interactions", "positive"), 0)
    hashers: dict[str, Any] = defaultdict(_hasher)
    seen = [np.zeros(0, np.uint64)]
    with (
        pq.ParquetWriter(folder / USERS_FILE, schema, compression="zstd") as users_file,
        pq.ParquetWriter(folder / INTERACTIONS_FILE, _ROWS, compression="zstd") as rows_file,
    ):
        for chunk in chunks:
            keys = user_keys(chunk.ids)
            users = {"user_id": chunk.ids, "user_key": keys}
            users |= {f.name: _column_of(f, chunk.codes[f.name]) for f in features}
            users_file.write_table(pa.table(users, schema=schema))
            owners = np.repeat(np.arange(len(keys)) + counts["users"], chunk.sizes)
            columns = (owners, chunk.items, chunk.labels, chunk.times)
            rows = dict(zip(_ROWS.names, columns, strict=True))
            rows_file.write_table(pa.table(rows, schema=_ROWS))
            for name, values, dtype in _hashed(chunk, keys, features):
                hashers[name].update(np.ascontiguousarray(values, dtype=dtype).tobytes())
            seen.append(keys)
            counts["users"] += len(keys)
            counts["interactions"] += len(owners)
            counts["positive"] += int(chunk.labels.sum())
    if len(np.unique(np.concatenate(seen))) < counts["users"]:
        raise DataError("two users have the same user_id; give every user an id of its own")
    total = _hasher()
    for name, hasher in sorted(hashers.items()):
        total.update(name.encode() + b"\0" + hasher.digest())
    return counts, total.hexdigest()


def user_keys(ids: list[str]) -> NDArray[np.uint64]:
    """The key of each user: blake2b-8 of the id, the same on every machine."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _hasher() -> Any:
    return hashlib.blake2b(digest_size=16)


def _hashed(
    chunk: UserChunk, keys: NDArray[np.uint64], features: tuple[Feature, ...]
) -> list[tuple[str, NDArray[Any], str]]:
    """The columns that the content hash is of: name, values, type."""
    return [
        ("ids", keys, "<u8"),
        ("sizes", chunk.sizes, "<i8"),
        ("items", chunk.items, "<i4"),
        ("labels", chunk.labels, "<i1"),
        ("times", chunk.times, "<i8"),
        *((feature.name, chunk.codes[feature.name], "<i4") for feature in features),
    ]


def _write_items(items: Entities, path: Path) -> None:
    columns = {"item_id": pa.array(items.ids, pa.string())}
    if items.titles is not None:
        columns["title"] = pa.array(items.titles, pa.string())
    columns |= {feature.name: _column_of(feature, codes) for feature, codes in items.encoded}
    pq.write_table(pa.table(columns), path, compression="zstd")


def _column_of(feature: Feature, codes: Codes) -> Any:
    """The parquet column of a feature's codes; the zeros behind a row's values are left out."""
    if feature.kind != "multi":
        return pa.array(codes.astype(np.int32))
    used = codes > 0
    offsets = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[used].astype(np.int32)))


def _catalogue_hash(items: Entities) -> str:
    hasher = _hasher()
    for name in items.ids:
        encoded = name.encode()
        hasher.update(len(encoded).to_bytes(4, "little") + encoded)
    for feature, codes in items.encoded:
        content = np.ascontiguousarray(codes, dtype="<i4").tobytes()
        hasher.update(feature.name.encode() + b"\0" + content)
    return hasher.hexdigest()

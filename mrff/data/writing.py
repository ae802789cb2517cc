"""Writes a prepared folder: the catalogue at once, users and interactions chunk by chunk.

The content hash is taken over the columns' values as they pass: it does not depend on the size of
the chunks nor on how parquet encodes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff.data.errors import DataError
from mrff.data.schema import INTERACTIONS_FILE, ITEMS_FILE, RESERVED, USERS_FILE, Feature, Schema

Codes = NDArray[np.int32]  # (N,), or (N, width) with zeros behind the values of a row


@dataclass(frozen=True)
class Catalogue:
    """The public items in the order of their codes (entry 0 is code 1)."""

    ids: list[str]
    features: tuple[Feature, ...]
    codes: dict[str, Codes]
    titles: list[str] | None = None


@dataclass(frozen=True)
class UserChunk:
    """Some users with all their interactions, by user in this order, then by time."""

    ids: list[str]
    codes: dict[str, Codes]
    sizes: NDArray[np.int64]  # (users,) interactions of each
    items: NDArray[np.int32]  # (interactions,)
    labels: NDArray[np.int8]
    times: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """What a recipe makes of its source; ``dropped`` and ``facts`` may fill while chunks pass."""

    name: str
    label_rule: str
    catalogue: Catalogue
    user_features: tuple[Feature, ...]
    chunks: Iterable[UserChunk]
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    facts: dict[str, Any] = field(default_factory=dict)  # anything else worth recording


@dataclass(frozen=True)
class UserTotals:
    """What was written of users."""

    users: int
    interactions: int
    positive: int
    content_hash: str

    @property
    def counts(self) -> dict[str, int]:
        """As they stand in the schema."""
        return {
            "users": self.users,
            "interactions": self.interactions,
            "positive": self.positive,
        }


def write_folder(prepared: Prepared, folder: Path, *, source: dict[str, Any]) -> Schema:
    """Writes the four files into an existing folder; ``schema.json`` comes last.

    Raises:
        DataError: a user named twice, a reserved feature name, or nothing to write.
    """
    catalogue = prepared.catalogue
    if not catalogue.ids:
        raise DataError(f"{prepared.name} has no items; nothing to prepare")
    for feature in (*catalogue.features, *prepared.user_features):
        if feature.name in RESERVED:
            raise DataError(f"a feature cannot be named {feature.name!r}; rename it")
    _write_items(catalogue, folder / ITEMS_FILE)
    totals = write_users(folder, prepared.user_features, prepared.chunks)
    dropped = {reason: count for reason, count in prepared.dropped.items() if count}
    if totals.interactions == 0:
        reasons = "; ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(
            f"{prepared.name} has no interactions to write"
            + (f" (dropped: {reasons}); check the source" if reasons else "; check the source")
        )
    schema = Schema(
        name=prepared.name,
        label_rule=prepared.label_rule,
        item_features=catalogue.features,
        user_features=prepared.user_features,
        num_items=len(catalogue.ids),
        catalogue_hash=_catalogue_hash(catalogue),
        counts={"items": len(catalogue.ids), **totals.counts, "dropped": dropped},
        source={**source, **prepared.facts},
        content_hash=totals.content_hash,
    )
    schema.save(folder)
    for path in folder.iterdir():
        sync(path)
    return schema


def write_users(
    folder: Path, features: tuple[Feature, ...], chunks: Iterable[UserChunk]
) -> UserTotals:
    """Writes ``users.parquet`` and ``interactions.parquet``.

    Raises:
        DataError: a user named twice.
    """
    writer = _UserWriter(folder, features)
    try:
        for chunk in chunks:
            writer.add(chunk)
    finally:
        writer.close()
    writer.refuse_repeated_users()
    return UserTotals(writer.users, writer.interactions, writer.positive, writer.content_hash())


def user_keys(ids: list[str]) -> NDArray[np.uint64]:
    """The key of each user: blake2b-8 of the id, the same on every machine."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def sync(path: Path) -> None:
    """Forces a file or folder to the disk, so that a rename cannot overtake its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _UserWriter:
    """Two open parquet files, and running hashes over what goes into them."""

    def __init__(self, folder: Path, features: tuple[Feature, ...]) -> None:
        self._features = features
        feature_fields = [
            pa.field(f.name, pa.list_(pa.int32()) if f.kind == "multi" else pa.int32())
            for f in features
        ]
        user_fields = [pa.field("user_id", pa.string()), pa.field("user_key", pa.uint64())]
        self._user_schema = pa.schema(user_fields + feature_fields)
        self._rows_schema = pa.schema(
            [("user", pa.int32()), ("item", pa.int32()), ("label", pa.int8()), ("time", pa.int64())]
        )
        self._users_file = _open(folder / USERS_FILE, self._user_schema)
        self._rows_file = _open(folder / INTERACTIONS_FILE, self._rows_schema)
        names = ["ids", "sizes", "items", "labels", "times", *(f.name for f in features)]
        self._hashers = {name: hashlib.blake2b(digest_size=16) for name in names}
        self._keys: list[NDArray[np.uint64]] = []
        self.users = self.interactions = self.positive = 0

    def add(self, chunk: UserChunk) -> None:
        keys = user_keys(chunk.ids)
        columns = [pa.array(chunk.ids, pa.string()), pa.array(keys)]
        columns += [column_of(feature, chunk.codes[feature.name]) for feature in self._features]
        self._users_file.write_table(pa.table(columns, schema=self._user_schema))
        rows = np.repeat(np.arange(self.users, self.users + len(keys)), chunk.sizes)
        table = pa.table(
            [
                pa.array(rows.astype(np.int32)),
                pa.array(chunk.items.astype(np.int32)),
                pa.array(chunk.labels.astype(np.int8)),
                pa.array(chunk.times.astype(np.int64)),
            ],
            schema=self._rows_schema,
        )
        self._rows_file.write_table(table)
        self._hash("ids", keys, "<u8")
        self._hash("sizes", chunk.sizes, "<i8")
        self._hash("items", chunk.items, "<i4")
        self._hash("labels", chunk.labels, "<i1")
        self._hash("times", chunk.times, "<i8")
        for feature in self._features:
            self._hash(feature.name, chunk.codes[feature.name], "<i4")
        self._keys.append(keys)
        self.users += len(keys)
        self.interactions += len(rows)
        self.positive += int(chunk.labels.sum())

    def close(self) -> None:
        self._users_file.close()
        self._rows_file.close()

    def refuse_repeated_users(self) -> None:
        keys = np.sort(np.concatenate([np.zeros(0, np.uint64), *self._keys]))
        if (keys[1:] == keys[:-1]).any():
            raise DataError("two users have the same user_id; give every user an id of its own")

    def content_hash(self) -> str:
        total = hashlib.blake2b(digest_size=16)
        for name, hasher in sorted(self._hashers.items()):
            total.update(name.encode() + b"\0" + hasher.digest())
        return total.hexdigest()

    def _hash(self, name: str, values: NDArray[Any], dtype: str) -> None:
        self._hashers[name].update(np.ascontiguousarray(values, dtype=dtype).tobytes())


def _write_items(catalogue: Catalogue, path: Path) -> None:
    columns = {"item_id": pa.array(catalogue.ids, pa.string())}
    if catalogue.titles is not None:
        columns["title"] = pa.array(catalogue.titles, pa.string())
    for feature in catalogue.features:
        columns[feature.name] = column_of(feature, catalogue.codes[feature.name])
    table = pa.table(columns)
    with _open(path, table.schema) as file:
        file.write_table(table)


def column_of(feature: Feature, codes: Codes) -> Any:
    """The parquet column of a feature's codes; the zeros behind a row's values are left out."""
    if feature.kind != "multi":
        return pa.array(codes.astype(np.int32))
    used = codes > 0
    offsets = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[used].astype(np.int32)))


def _catalogue_hash(catalogue: Catalogue) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for name in catalogue.ids:
        encoded = name.encode()
        hasher.update(len(encoded).to_bytes(4, "little") + encoded)
    for feature in catalogue.features:
        codes = np.ascontiguousarray(catalogue.codes[feature.name], dtype="<i4")
        hasher.update(feature.name.encode() + b"\0" + codes.tobytes())
    return hasher.hexdigest()


def _open(path: Path, schema: Any) -> Any:
    return pq.ParquetWriter(path, schema, compression="zstd")

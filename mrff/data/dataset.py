"""Loads a prepared folder into arrays: the public catalogue, and the users with their histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff.data.errors import DataError
from mrff.data.schema import INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE, Feature, Schema

IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Catalogue:
    """The schema, and the items' codes by feature; row 0 of every array is zeros."""

    schema: Schema
    item_codes: dict[str, IntArray]  # (num_items + 1,) or (num_items + 1, width)


@dataclass(frozen=True)
class Dataset:
    """Users, their interactions in time order, and the catalogue the item codes refer to.

    The interactions of user row ``u`` are ``items[offsets[u]:offsets[u + 1]]`` and the same slice
    of ``labels``. Item code ``i`` is row ``i`` of every array of ``item_features``; row 0 is zeros.
    """

    schema: Schema
    item_features: dict[str, IntArray]  # (num_items + 1,) or (num_items + 1, width)
    user_ids: NDArray[Any]  # (U,) str
    user_keys: NDArray[np.uint64]  # (U,)
    user_features: dict[str, IntArray]  # (U,) or (U, width)
    offsets: NDArray[np.int64]  # (U + 1,)
    items: IntArray  # (N,) codes from 1
    labels: NDArray[np.int8]  # (N,) 0 or 1

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)


def load_dataset(folder: Path) -> Dataset:
    """Loads and checks a prepared folder.

    Raises:
        DataError: a missing or damaged file, a code outside its vocabulary, unsorted or empty data.
    """
    catalogue = load_catalogue(folder)
    schema = catalogue.schema
    path = Path(folder) / USERS_FILE
    users = _read(path, ["user_id", "user_key", *(f.name for f in schema.user_features)])
    num_users = users.num_rows
    if num_users == 0:
        raise DataError(f"{folder} has no users; give every node at least one user")
    user_keys = _integers(users, "user_key", path).astype(np.uint64, copy=False)
    if len(np.unique(user_keys)) < num_users:
        raise _damaged(f"{path} names a user twice")
    user_ids = _names(users, "user_id", path)
    user_features = {feature.name: _codes(users, feature, path) for feature in schema.user_features}

    path = Path(folder) / INTERACTIONS_FILE
    # one column at a time: the file's buffers are freed before the next one is read
    rows = _column(path, "user", 0, num_users - 1)
    if len(rows) == 0:
        raise DataError(f"{path} has no rows; a dataset needs at least one interaction")
    _check_sorted(path, rows, load_times(folder))
    offsets = np.zeros(num_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=num_users), out=offsets[1:])
    return Dataset(
        schema=schema,
        item_features=catalogue.item_codes,
        user_ids=user_ids,
        user_keys=user_keys,
        user_features=user_features,
        offsets=offsets,
        items=_column(path, "item", 1, schema.num_items).astype(np.int32, copy=False),
        labels=_column(path, "label", 0, 1).astype(np.int8, copy=False),
    )


def load_catalogue(folder: Path) -> Catalogue:
    """Loads what is public, and all a server needs.

    Raises:
        DataError: a missing or damaged file, a code outside its vocabulary.
    """
    schema = Schema.load(folder)
    path = Path(folder) / ITEMS_FILE
    table = _read(path, [feature.name for feature in schema.item_features])
    if table.num_rows != schema.num_items:
        raise _damaged(f"{path} has {table.num_rows} items, schema.json says {schema.num_items}")
    item_codes = {}
    for feature in schema.item_features:
        codes = _codes(table, feature, path)
        item_codes[feature.name] = np.concatenate([np.zeros_like(codes[:1]), codes])
    return Catalogue(schema, item_codes)


def load_titles(folder: Path) -> list[str]:
    """The items' names by code: entry 0 is empty; the item id where there is no title."""
    path = Path(folder) / ITEMS_FILE
    with _reading(path) as file:
        column = "title" if "title" in file.schema_arrow.names else "item_id"
    return ["", *_read(path, [column]).column(0).to_pylist()]


def load_times(folder: Path) -> NDArray[np.int64]:
    """The time of every interaction, in the order of ``Dataset.items``."""
    path = Path(folder) / INTERACTIONS_FILE
    return _integers(_read(path, ["time"]), "time", path).astype(np.int64, copy=False)


def rows_of(offsets: NDArray[np.int64], users: NDArray[np.int64]) -> NDArray[np.int64]:
    """The interactions of the given users, one user after the other."""
    starts, sizes = offsets[users], np.diff(offsets)[users]
    ends = np.cumsum(sizes)
    return np.asarray(np.repeat(starts - ends + sizes, sizes) + np.arange(sizes.sum()))


def take_users(dataset: Dataset, users: NDArray[np.int64]) -> Dataset:
    """The dataset with only the given user rows, in the given order; the catalogue is shared."""
    sizes = np.diff(dataset.offsets)[users]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = rows_of(dataset.offsets, users)
    return replace(
        dataset,
        user_ids=dataset.user_ids[users],
        user_keys=dataset.user_keys[users],
        user_features={name: codes[users] for name, codes in dataset.user_features.items()},
        offsets=offsets,
        items=dataset.items[rows],
        labels=dataset.labels[rows],
    )


def partition(dataset: Dataset, partition_id: int, num_partitions: int) -> Dataset:
    """The users ``u`` with ``u % num_partitions == partition_id``, as ``shard`` spreads them too.

    Raises:
        DataError: an impossible partition, or one that would have no user.
    """
    check_nodes(num_partitions, dataset.num_users)
    if not 0 <= partition_id < num_partitions:
        raise DataError(
            f"partition-id must be between 0 and {num_partitions - 1}, got {partition_id}"
        )
    return take_users(dataset, np.arange(partition_id, dataset.num_users, num_partitions))


def check_nodes(num_nodes: int, num_users: int) -> None:
    """Raises DataError unless every one of the nodes gets at least one of the users."""
    if not 1 <= num_nodes <= num_users:
        raise DataError(
            f"number of nodes must be between 1 and {num_users} (the number of users), "
            f"got {num_nodes}: a node without users has nothing to train on"
        )


def _damaged(reason: str) -> DataError:
    return DataError(f"{reason}; prepare the dataset anew")


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise _damaged(f"{path} is missing") from None
    except (OSError, pa.ArrowException) as error:
        raise _damaged(f"{path} cannot be read ({str(error).splitlines()[0]})") from None


def _read(path: Path, columns: Sequence[str]) -> Any:
    with _reading(path) as file:
        present = file.schema_arrow.names
        for name in columns:
            if name not in present:
                raise _damaged(f"{path} has no column {name!r} (it has {', '.join(present)})")
        return file.read(columns=list(columns))


def _column(path: Path, name: str, low: int, high: int) -> NDArray[Any]:
    return _in_range(path, name, _integers(_read(path, [name]), name, path), low, high)


def _names(table: Any, name: str, path: Path) -> NDArray[Any]:
    column = table.column(name)
    _check_column(path, name, column, "text without gaps", fits=pa.types.is_string(column.type))
    return np.array(column.to_pylist(), dtype=object)


def _integers(table: Any, name: str, path: Path) -> NDArray[Any]:
    column = table.column(name)
    fits = pa.types.is_integer(column.type)
    _check_column(path, name, column, "whole numbers without gaps", fits=fits)
    return _joined(column.chunks, column.type)


def _check_column(path: Path, name: str, column: Any, wanted: str, *, fits: bool) -> None:
    missing = column.null_count
    if pa.types.is_list(column.type):
        missing += sum(chunk.flatten().null_count for chunk in column.chunks)
    if not fits or missing:
        raise _damaged(
            f"{path}, column {name!r} must hold {wanted}, it is {column.type} "
            f"with {missing} missing"
        )


def _codes(table: Any, feature: Feature, path: Path) -> IntArray:
    highest = feature.size - 1
    if feature.kind != "multi":
        codes = _in_range(path, feature.name, _integers(table, feature.name, path), 0, highest)
        return codes.astype(np.int32, copy=False)
    column = table.column(feature.name)
    fits = pa.types.is_list(column.type) and pa.types.is_integer(column.type.value_type)
    _check_column(path, feature.name, column, "lists of codes", fits=fits)
    sizes = np.concatenate(
        [np.diff(_joined([chunk.offsets], chunk.offsets.type)) for chunk in column.chunks]
        or [np.zeros(0, np.int32)]
    )
    _in_range(path, f"{feature.name} (values per row)", sizes, 0, feature.width)
    flat = _joined([chunk.flatten() for chunk in column.chunks], column.type.value_type)
    padded = np.zeros((len(sizes), feature.width), dtype=np.int32)
    padded[np.arange(feature.width) < sizes[:, None]] = _in_range(
        path, feature.name, flat, 0, highest
    )
    return padded


def _joined(chunks: Sequence[Any], kind: Any) -> NDArray[Any]:
    """Whole-number chunks as one array; pyarrow's own conversion would import pandas."""
    dtype = np.dtype(str(kind))
    parts = [
        np.frombuffer(
            chunk.buffers()[1], dtype=dtype, count=len(chunk), offset=chunk.offset * dtype.itemsize
        )
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _in_range(path: Path, name: str, values: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    if len(values) and (values.min() < low or values.max() > high):
        row = int(np.flatnonzero((values < low) | (values > high))[0])
        raise _damaged(
            f"{path}, column {name!r}, row {row + 1}: {values[row]} is not between {low} and {high}"
        )
    return values


def _check_sorted(path: Path, rows: NDArray[Any], times: NDArray[np.int64]) -> None:
    """Users in order, and the times of each."""
    later = rows[1:] > rows[:-1]
    later |= (rows[1:] == rows[:-1]) & (times[1:] >= times[:-1])
    if not later.all():
        raise _damaged(f"{path} is not sorted by user and time at row {int(np.argmin(later)) + 2}")

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

from mrff.config import TimesRead
from mrff.data.clock import nanoseconds
from mrff.data.errors import DataError
from mrff.data.schema import INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE, Feature, Schema

IntArray = NDArray[np.int32]
NO_TIMES = TimesRead()


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
    same_time: NDArray[np.bool_]  # (N,) entered at the same second as the user's one before
    times: NDArray[np.int64] | None = None  # (N,), where a run reads them, in nanoseconds since
    # 1970; of data without real times the numbers that it has
    knows_same_time: bool = True  # a label is known at rows of its time; else at later ones only
    only_train: NDArray[np.bool_] | None = None  # (U,) whose rows all train; None: too short ones
    trains: NDArray[np.bool_] | None = None  # (U,) who trains at all; None: everybody

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def with_rows(self, rows: NDArray[Any], offsets: NDArray[np.int64]) -> Dataset:
        """The same catalogue with some of the interactions, by users who begin at ``offsets``."""
        return replace(
            self,
            offsets=offsets,
            items=self.items[rows],
            labels=self.labels[rows],
            same_time=self.same_time[rows],
            times=None if self.times is None else self.times[rows],
        )


def load_dataset(folder: Path, read: TimesRead = NO_TIMES) -> Dataset:
    """Loads and checks a prepared folder.

    Args:
        read: what a run reads of times; where it is nothing, none are kept.

    Raises:
        DataError: a missing or damaged file, a code outside its vocabulary, unsorted or empty data,
            or no real times where inputs are made of them.
    """
    catalogue = load_catalogue(folder)
    schema, users = catalogue.schema, _File(folder, USERS_FILE)
    user_ids = users.texts("user_id")
    if not len(user_ids):
        raise DataError(f"{folder} has no users; give every node at least one user")
    user_keys = users.integers("user_key").astype(np.uint64, copy=False)
    if len(np.unique(user_keys)) < len(user_ids):
        raise _damaged(f"{users.path} names a user twice")
    user_features = {feature.name: users.codes(feature) for feature in schema.user_features}

    rows = _File(folder, INTERACTIONS_FILE)
    owners = rows.limited("user", 0, len(user_ids) - 1)
    if not len(owners):
        raise DataError(f"{rows.path} has no rows; a dataset needs at least one interaction")
    times = load_times(folder)
    _check_sorted(rows.path, owners, times)
    knows_same_time = read.same_time == "known"
    real = nanoseconds(times) if read.inputs or not knows_same_time else None
    if read.inputs and real is None:
        raise DataError(
            f"{rows.path} has no real times, its last is {times.max()}: network.time-inputs=true "
            "and network.history-times=true need dates, or numbers in one unit since 1970; "
            "use network.time-inputs=false and network.history-times=false"
        )
    sizes = np.bincount(owners, minlength=len(user_ids))
    return Dataset(
        schema=schema,
        item_features=catalogue.item_codes,
        user_ids=user_ids,
        user_keys=user_keys,
        user_features=user_features,
        offsets=_offsets(sizes),
        items=rows.limited("item", 1, schema.num_items).astype(np.int32, copy=False),
        labels=rows.limited("label", 0, 1).astype(np.int8, copy=False),
        same_time=_same_time(owners, times),
        times=real if knows_same_time or real is not None else times,
        knows_same_time=knows_same_time,
    )


def load_catalogue(folder: Path) -> Catalogue:
    """Loads what is public, and all a server needs.

    Raises:
        DataError: a missing or damaged file, a code outside its vocabulary.
    """
    schema, items = Schema.load(folder), _File(folder, ITEMS_FILE)
    if items.num_rows != schema.num_items:
        raise _damaged(
            f"{items.path} has {items.num_rows} items, schema.json says {schema.num_items}"
        )
    item_codes = {}
    for feature in schema.item_features:
        codes = items.codes(feature)
        item_codes[feature.name] = np.concatenate([np.zeros_like(codes[:1]), codes])
    return Catalogue(schema, item_codes)


def load_titles(folder: Path) -> list[str]:
    """The items' names by code: entry 0 is empty; the item id where there is no title."""
    items = _File(folder, ITEMS_FILE)
    return ["", *items.column("title" if "title" in items.names else "item_id").to_pylist()]


def load_item_ids(folder: Path) -> list[str]:
    """The items' ids in the source data by code: entry 0 is empty."""
    return ["", *_File(folder, ITEMS_FILE).column("item_id").to_pylist()]


def load_user_ids(folder: Path) -> list[str]:
    """The users' ids in the source data, in their order."""
    return _File(folder, USERS_FILE).texts("user_id").tolist()


def load_times(folder: Path) -> NDArray[np.int64]:
    """The time of every interaction, in the order of ``Dataset.items``."""
    return _File(folder, INTERACTIONS_FILE).integers("time").astype(np.int64, copy=False)


def load_sizes(folder: Path) -> NDArray[np.int64]:
    """How many interactions every user has, in the order of the users."""
    return np.bincount(_File(folder, INTERACTIONS_FILE).integers("user"))


def rows_of(offsets: NDArray[np.int64], users: NDArray[np.int64]) -> NDArray[np.int64]:
    """The interactions of the given users, one user after the other."""
    return rows_between(offsets[users], offsets[users + 1])


def rows_between(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The interactions from each start to each end, that one left out, one span after the other."""
    sizes = ends - starts
    before = np.cumsum(sizes) - sizes
    return np.asarray(np.repeat(starts - before, sizes) + np.arange(sizes.sum()))


def take_users(dataset: Dataset, users: NDArray[np.int64]) -> Dataset:
    """The dataset with only the given user rows, in the given order; the catalogue is shared."""
    rows = rows_of(dataset.offsets, users)
    return replace(
        dataset.with_rows(rows, _offsets(np.diff(dataset.offsets)[users])),
        user_ids=dataset.user_ids[users],
        user_keys=dataset.user_keys[users],
        user_features={name: codes[users] for name, codes in dataset.user_features.items()},
        only_train=None if dataset.only_train is None else dataset.only_train[users],
        trains=None if dataset.trains is None else dataset.trains[users],
    )


def partition(dataset: Dataset, partition_id: int, num_partitions: int) -> Dataset:
    """The users ``u`` with ``u % num_partitions == partition_id``, as ``shard`` spreads them."""
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


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _damaged(reason: str) -> DataError:
    return DataError(f"{reason}; prepare the dataset anew")


class _File:
    """A parquet file; a column is read when asked for, and its buffers are freed with it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = Path(folder) / name
        with self._open() as file:
            self.names, self.num_rows = file.schema_arrow.names, file.metadata.num_rows

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except FileNotFoundError:
            raise _damaged(f"{self.path} is missing") from None
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise _damaged(f"{self.path} cannot be read ({reason})") from None

    def column(self, name: str) -> Any:
        """The column as pyarrow has it."""
        if name not in self.names:
            has = ", ".join(self.names)
            raise _damaged(f"{self.path} has no column {name!r} (it has {has})")
        with self._open() as file:
            return file.read(columns=[name]).column(0)

    def texts(self, name: str) -> NDArray[Any]:
        """A column of text."""
        column = self.column(name)
        self._check(name, column, "text without gaps", fits=pa.types.is_string(column.type))
        return np.array(column.to_pylist(), dtype=object)

    def integers(self, name: str) -> NDArray[Any]:
        """A column of whole numbers."""
        column = self.column(name)
        fits = pa.types.is_integer(column.type)
        self._check(name, column, "whole numbers without gaps", fits=fits)
        return _joined(column.chunks, column.type)

    def limited(self, name: str, low: int, high: int) -> NDArray[Any]:
        """A column of whole numbers from ``low`` to ``high``."""
        return self._within(name, self.integers(name), low, high)

    def codes(self, feature: Feature) -> IntArray:
        """A feature's codes: ``(rows,)``, or ``(rows, width)`` with zeros behind them."""
        name, highest = feature.name, feature.size - 1
        if feature.kind != "multi":
            return self.limited(name, 0, highest).astype(np.int32, copy=False)
        column = self.column(name)
        fits = pa.types.is_list(column.type) and pa.types.is_integer(column.type.value_type)
        self._check(name, column, "lists of codes", fits=fits)
        lengths = [np.diff(np.from_dlpack(chunk.offsets)) for chunk in column.chunks]
        sizes = np.concatenate([np.zeros(0, np.int32), *lengths])
        self._within(f"{name} (values per row)", sizes, 0, feature.width)
        flat = _joined([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        padded = np.zeros((len(sizes), feature.width), dtype=np.int32)
        padded[np.arange(feature.width) < sizes[:, None]] = self._within(name, flat, 0, highest)
        return padded

    def _check(self, name: str, column: Any, wanted: str, *, fits: bool) -> None:
        missing = column.null_count
        if pa.types.is_list(column.type):
            missing += sum(chunk.flatten().null_count for chunk in column.chunks)
        if not fits or missing:
            raise _damaged(
                f"{self.path}, column {name!r} must hold {wanted}, it is {column.type} "
                f"with {missing} missing"
            )

    def _within(self, name: str, values: NDArray[Any], low: int, high: int) -> NDArray[Any]:
        wrong = np.flatnonzero((values < low) | (values > high))
        if len(wrong):
            raise _damaged(
                f"{self.path}, column {name!r}, row {wrong[0] + 1}: {values[wrong[0]]} is not "
                f"between {low} and {high}"
            )
        return values


def _joined(chunks: Sequence[Any], kind: Any) -> NDArray[Any]:
    """Whole-number chunks as one array; pyarrow's own conversion would import pandas."""
    parts = [np.from_dlpack(chunk) for chunk in chunks]
    return np.concatenate([np.zeros(0, np.dtype(str(kind))), *parts])


def _same_time(owners: NDArray[Any], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether an interaction shares owner and time with the one before."""
    same = (owners[1:] == owners[:-1]) & (times[1:] == times[:-1])
    return np.concatenate([[False], same])


def _check_sorted(path: Path, owners: NDArray[Any], times: NDArray[np.int64]) -> None:
    """Users in order, and the times of each."""
    later = owners[1:] > owners[:-1]
    later |= (owners[1:] == owners[:-1]) & (times[1:] >= times[:-1])
    if not later.all():
        raise _damaged(f"{path} is not sorted by user and time at row {int(np.argmin(later)) + 2}")

"""Turns columns of text and numbers into codes, and rows of interactions into sorted users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.errors import DataError
from mrff.data.losses import MISSING
from mrff.data.schema import Feature
from mrff.data.writing import Codes, Encoded, Entities, Prepared, UserChunk

Repeats = Literal["keep", "exact", "first", "last"]


def item_id_feature(num_items: int, name: str = "item") -> Encoded:
    """The item itself as a feature: its code."""
    codes = np.arange(1, num_items + 1, dtype=np.int32)
    return Feature(name, "id", num_items + 1), codes


def categorical(name: str, column: Any, *, values: Sequence[str] | None = None) -> Encoded:
    """Codes of a text column; without ``values`` the vocabulary is what the column holds."""
    vocabulary = natural_order(pc.unique(column)) if values is None else list(values)
    feature = Feature(name, "categorical", len(vocabulary) + 1, 1, tuple(vocabulary))
    return feature, codes_of(column, vocabulary)


def multi(
    name: str, rows: Sequence[Sequence[str]], *, values: Sequence[str] | None = None
) -> Encoded:
    """Codes ``(N, width)`` of rows with any number of values; repeated values count once."""
    rows = [list(dict.fromkeys(row)) for row in rows]
    flat = pa.array([value for row in rows for value in row], pa.string())
    vocabulary = natural_order(pc.unique(flat)) if values is None else list(values)
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    codes = np.zeros((len(rows), max(1, int(sizes.max(initial=0)))), dtype=np.int32)
    codes[np.arange(codes.shape[1]) < sizes[:, None]] = codes_of(flat, vocabulary)
    codes = np.take_along_axis(codes, np.argsort(codes == 0, axis=1, kind="stable"), axis=1)
    width = max(1, int((codes > 0).sum(axis=1).max(initial=0)))  # unknown values are left out
    feature = Feature(name, "multi", len(vocabulary) + 1, width, tuple(vocabulary))
    return feature, np.ascontiguousarray(codes[:, :width])


def bucket(name: str, numbers: NDArray[np.float64], edges: Sequence[float]) -> Encoded:
    """Code 1 below the first edge, 2 from it to the second, ...; 0 where the number is NaN."""
    if not len(edges) or any(low >= high for low, high in pairwise(edges)):
        raise DataError(f"feature {name!r}: edges must increase and be at least one, got {edges}")
    codes = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right") + 1
    codes = np.where(np.isnan(numbers), 0, codes)
    inner = [f"{low:g}..{high:g}" for low, high in pairwise(edges)]
    names = (f"below {edges[0]:g}", *inner, f"from {edges[-1]:g}")
    return Feature(name, "bucket", len(edges) + 2, 1, names), codes.astype(np.int32)


def codes_of(column: Any, vocabulary: Sequence[str]) -> Codes:
    """1 + the position in the vocabulary; 0 for what is missing or not in it."""
    found = pc.index_in(column, pa.array(list(vocabulary), pa.string()))
    return np.asarray(pc.fill_null(found, -1)).astype(np.int32) + 1


def first_rows(column: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """The first row in which the text column has each of the names (all of them occur)."""
    codes, rows = np.unique(codes_of(column, names), return_index=True)
    return np.asarray(rows[codes > 0])


def natural_order(values: Any) -> list[str]:
    """The values without null: by number if all are whole numbers, else as text."""
    names = [value for value in values.to_pylist() if value is not None]
    if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


@dataclass(frozen=True)
class Rows:
    """Interactions as read: ``users`` and ``items`` are text, all of the same length."""

    users: Any
    items: Any
    labels: NDArray[np.int8]
    times: NDArray[np.int64]
    repeats: Repeats = "keep"  # what becomes of several rows of one user with one item


def prepared(
    name: str, label_rule: str, items: Entities, rows: Rows, users: Entities | None = None
) -> Prepared:
    """The dataset of interactions that fit into memory."""
    dropped: dict[str, int] = {}
    chunk = sorted_users(rows, items, dropped)
    features = () if users is None else with_user_features(chunk, users)
    return Prepared(name, label_rule, items, features, [chunk], dropped)


def sorted_users(rows: Rows, known: Entities, dropped: dict[str, int]) -> UserChunk:
    """All users in natural order of their ids, each with the interactions by time.

    The sort is stable: interactions at the same time keep the order of the file. Rows of unknown
    items and the repeats the rule forbids are left out and counted in ``dropped``. The rule may
    ``keep`` all, drop ``exact`` copies (same time and label), or keep only the ``first`` or
    ``last`` in time.
    """
    names = natural_order(pc.unique(rows.users))
    users = codes_of(rows.users, names) - 1
    items = codes_of(rows.items, known.ids)
    order = np.lexsort((rows.times, users))
    order = order[items[order] > 0]
    dropped[MISSING] = len(users) - len(order)
    repeats, kept = rows.repeats, order
    if repeats != "keep":
        kept = order[~_repeated(users[order], items[order], rows, order)]
    reason = "exact copies of a row" if repeats == "exact" else f"repeated items, {repeats} kept"
    dropped[reason] = len(order) - len(kept)
    sizes = np.bincount(users[kept], minlength=len(names)).astype(np.int64)
    present = np.flatnonzero(sizes)
    return UserChunk(
        ids=[names[u] for u in present],
        codes={},
        sizes=sizes[present],
        items=items[kept],
        labels=rows.labels[kept],
        times=rows.times[kept],
    )


def _repeated(
    users: NDArray[np.int32], items: Codes, rows: Rows, order: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which positions in ``order`` the rule for repeats leaves out."""
    import pandas as pd  # heavy, and who loads a prepared dataset needs none

    columns: dict[str, NDArray[Any]] = {"user": users, "item": items}
    if rows.repeats == "exact":
        columns |= {"time": rows.times[order], "label": rows.labels[order]}
    keep: Literal["first", "last"] = "last" if rows.repeats == "last" else "first"
    return np.asarray(pd.DataFrame(columns).duplicated(keep=keep))


def with_user_features(chunk: UserChunk, users: Entities) -> tuple[Feature, ...]:
    """Gives the chunk's users their codes, found by id; a user without a row gets code 0."""
    position = codes_of(pa.array(chunk.ids, pa.string()), users.ids)
    for feature, codes in users.encoded:
        chunk.codes[feature.name] = np.concatenate([np.zeros_like(codes[:1]), codes])[position]
    return tuple(feature for feature, _ in users.encoded)

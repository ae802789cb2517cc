"""Tables of a network whose catalogue has grown: where the rows of what is new begin.

A new item begins at the mean of the known items that share most of its features' values; where
nothing is shared, or items have no features but their id, at the mean of all. A new value of a
feature begins at the mean of the known values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_TABLE = re.compile(
    r"(?:clusters\.\d+\.)?"
    r"(?:(?:item_features\.(?P<feature>.+)_table|user_features\..+_table"
    r"|(?P<of_items>item_table|item_bias|next_head\.item_bias))\.weight"
    r"|item_statistics\.(?P<of_each>rates|vectors))"
)


def may_grow(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a shared array of the one shape becomes one of the other by more rows alone."""
    return bool(_TABLE.fullmatch(name)) and old[0] < new[0] and old[1:] == new[1:]


@dataclass(frozen=True)
class NewItems:
    """Items that were not in the catalogue before, by the known ones that they are like.

    Args:
        known: how many items there were.
        ids: features that are the item itself.
        groups: new items alike (n,), and the known items (m,) whose mean they begin at; codes.
    """

    known: int
    ids: frozenset[str]
    groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]]

    @classmethod
    def of(
        cls, item_codes: Mapping[str, NDArray[np.int32]], ids: Collection[str], known: int
    ) -> NewItems:
        """Of a catalogue, (items + 1,) or (items + 1, M) codes by feature; row 0 is padding."""
        rows = len(next(iter(item_codes.values())))
        columns = [codes.reshape(rows, -1) for name, codes in item_codes.items() if name not in ids]
        sharers = [_items_by_value(codes[: known + 1]) for codes in columns]
        described = np.hstack([np.zeros((rows, 1), np.int32), *columns])[known + 1 :]
        kinds, kind_of = np.unique(described, axis=0, return_inverse=True)
        groups = []
        for number, kind in enumerate(kinds):
            shared, place = np.zeros(known + 1, np.int64), 1
            for codes, items in zip(columns, sharers, strict=True):
                for value in kind[place : place + codes.shape[1]]:
                    shared[items.get(int(value), [])] += 1
                place += codes.shape[1]
            alike = 1 + np.flatnonzero(shared[1:] == shared[1:].max())
            groups.append((known + 1 + np.flatnonzero(kind_of.ravel() == number), alike))
        return cls(known, frozenset(ids), groups)

    def extended(self, name: str, old: Array, rows: int) -> Array:
        """The table ``name`` (R, ...) with rows for what is new, (rows, ...)."""
        match = _TABLE.fullmatch(name)
        assert match is not None
        new = np.zeros((rows, *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        if match["of_each"]:  # nothing is known of a new item; the run counts anew
            return new
        if match["of_items"] or match["feature"] in self.ids:
            for items, alike in self.groups:
                new[items] = old[alike].mean(axis=0, dtype=np.float64)
        elif len(old) > 1:  # row 0 is of no value
            new[len(old) :] = old[1:].mean(axis=0, dtype=np.float64)
        return new


def _items_by_value(codes: NDArray[np.int32]) -> dict[int, NDArray[np.int64]]:
    """The items that have each value of a feature (known + 1, M)."""
    items, places = np.nonzero(codes)
    values = codes[items, places]
    order = np.argsort(values, kind="stable")
    found, starts = np.unique(values[order], return_index=True)
    return dict(zip(found.tolist(), np.split(items[order], starts[1:]), strict=True))

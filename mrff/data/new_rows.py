"""Old and new rows of a node's users as one, in the codes that the node has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mrff.data.encoding import Rows, codes_of, sorted_users
from mrff.data.errors import DataError
from mrff.data.growth import in_place
from mrff.data.recipes.description import Description
from mrff.data.schema import Feature
from mrff.data.writing import Codes, Entities, Prepared, UserChunk

Given = tuple[Description, Prepared]


def with_rows(
    chunk: UserChunk, given: Given, item_ids: list[str], features: tuple[Feature, ...]
) -> tuple[UserChunk, dict[str, int]]:
    """Old and new rows together, by user and time; of the same time the old ones come first.

    Args:
        chunk: the users there are, with their rows.
        given: what the new rows are described by, and what its recipe made of it.
        item_ids: of the catalogue, by code from 1.
        features: of users, as the folder has them.

    Returns:
        All users, and how many rows were left out for which reason.

    Raises:
        DataError: no row could be used, or times or features are others than before.
    """
    described, prepared = given
    (new,) = prepared.chunks
    codes = _with_zero(codes_of(pa.array(prepared.items.ids), item_ids))[new.items]
    known = codes > 0
    if not known.any():
        raise DataError(
            f"{described.path}: none of its {len(codes):,} rows is of an item that the catalogue "
            "has: take a later catalogue with --catalogue, or check interactions.item"
        )
    _check_times(chunk.times, new.times, described.path)
    new = replace(new, items=codes)
    fresh = known & ~_are_there(new, chunk)
    rows = Rows(
        users=pa.array([*_owners(chunk), *_owners(new)[fresh]], pa.string()),
        items=pa.array(item_ids).take(pa.array(np.append(chunk.items, codes[fresh]) - 1)),
        labels=np.append(chunk.labels, new.labels[fresh]),
        times=np.append(chunk.times, new.times[fresh]),
        repeats=described.repeats,
    )
    more: dict[str, int] = {}
    together = in_place(sorted_users(rows, Entities(item_ids, []), more), chunk.ids)
    left_out = dict(prepared.dropped)
    for reason, count in (
        ("rows of items that the catalogue does not have", int((~known).sum())),
        ("rows that were there already", int((known & ~fresh).sum())),
        *more.items(),
    ):
        left_out[reason] = left_out.get(reason, 0) + count
    old_place, new_place = _places(together, chunk), _places(together, new)
    described_features = {feature.name: feature for feature in prepared.user_features}
    for feature in features:
        codes = _with_zero(chunk.codes[feature.name])[old_place]
        if feature.name in described_features:
            kind = described_features[feature.name]
            read = _with_zero(_in_vocabulary(new.codes[feature.name], kind, feature))
            codes[old_place == 0] = read[new_place[old_place == 0]]
        together.codes[feature.name] = codes
    return together, {reason: count for reason, count in left_out.items() if count}


def _owners(chunk: UserChunk) -> NDArray[Any]:
    """(rows,) whose each row is."""
    return np.repeat(np.array(chunk.ids, dtype=object), chunk.sizes)


def _places(some: UserChunk, of: UserChunk) -> Codes:
    """(users,) where each of ``some`` users is among others, from 1; 0 where they are not."""
    return codes_of(pa.array(some.ids, pa.string()), of.ids)


def _with_zero(codes: Codes) -> Codes:
    """Row 0 for what is not there."""
    return np.concatenate([np.zeros_like(codes[:1]), codes])


def _are_there(new: UserChunk, old: UserChunk) -> NDArray[np.bool_]:
    """(rows,) which rows of ``new`` stand in ``old`` with the same time and label."""
    ours = _as_rows(new, _places(new, old))
    theirs = _as_rows(old, np.arange(1, len(old.ids) + 1, dtype=np.int32))
    return np.isin(ours, theirs)


def _as_rows(chunk: UserChunk, numbers: Codes) -> NDArray[Any]:
    """(rows,) each as one value: user, item, label, time."""
    columns = (np.repeat(numbers, chunk.sizes), chunk.items, chunk.labels, chunk.times)
    rows = np.stack([column.astype(np.int64) for column in columns], axis=1)
    return rows.view(np.dtype((np.void, rows.itemsize * len(columns)))).ravel()


def _check_times(old: NDArray[np.int64], new: NDArray[np.int64], source: Path) -> None:
    """Seconds and milliseconds differ by a thousand: no two weeks of one log do."""
    before, now = int(old.max()), int(new.max())
    if min(before, now) > 0 and max(before, now) > 100 * min(before, now):
        raise DataError(
            f"{source}: its latest time is {now}, that of the rows there is {before}: give times "
            "in the unit they have (whole seconds, or dates, which become milliseconds)"
        )


def _in_vocabulary(codes: Codes, given: Feature, known: Feature) -> Codes:
    """A feature's codes in the vocabulary of the folder; 0 for a value that it does not have."""
    if (given.kind, bool(given.values)) != (known.kind, bool(known.values)) or (
        given.kind == "bucket" and given.values != known.values
    ):
        raise DataError(
            f"user feature {known.name!r} is described in another way than before: kind "
            f"{given.kind}, values {', '.join(given.values[:5])}; describe it as it was"
        )
    if given.width > known.width:
        raise DataError(
            f"user feature {known.name!r} has up to {given.width} values, this version of the "
            f"catalogue has room for {known.width}: it has to grow first, where it is prepared"
        )
    if not known.values:
        return np.where(codes < known.size, codes, 0)
    places = _with_zero(codes_of(pa.array(given.values, pa.string()), known.values))
    found = places[codes]
    if known.kind != "multi":
        return found
    return np.pad(found, ((0, 0), (0, known.width - found.shape[1])))

"""The next version of a dataset: what was there keeps its codes, what is new comes after it.

The new source is the whole of it, old rows and new ones. Items, values and users that were known
keep their places; a catalogue that lost something cannot be the next version of the one it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrff.data.dataset import load_catalogue, load_item_ids, load_user_ids, rows_between
from mrff.data.errors import DataError
from mrff.data.schema import Feature, Schema
from mrff.data.writing import Codes, Encoded, Entities, Prepared, UserChunk

WAY_OUT = "begin again with --anew, or choose another folder with --out"
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """A version of a dataset as the next one has to know it."""

    schema: Schema
    item_ids: list[str]  # by code, entry 0 is code 1
    item_codes: dict[str, Codes]  # (items, ...) by feature
    user_ids: list[str]  # in their order; none where that cannot be read


def known_in(folder: Path) -> Known:
    """What is in a prepared folder.

    Raises:
        DataError: its catalogue is missing or damaged.
    """
    catalogue = load_catalogue(folder)
    try:
        users = load_user_ids(folder)
    except DataError:
        users = []
    codes = {name: values[1:] for name, values in catalogue.item_codes.items()}
    return Known(catalogue.schema, load_item_ids(folder)[1:], codes, users)


def extended(prepared: Prepared, known: Known) -> Prepared:
    """What a recipe made of the whole source, in the codes of the version before.

    Raises:
        DataError: items are gone, a feature is another one, or labels mean something else.
    """
    old = known.schema
    _check_meaning(prepared, old)
    order = _order(prepared, known)  # (items,) where each is in the new source
    features = _same_features(old.item_features, prepared.items.features, "item")
    names = [feature.name for feature in old.item_features]
    given = {feature.name: (feature, codes) for feature, codes in prepared.items.encoded}
    encoded = [_encoded(features[name], given[name], order) for name in names]
    places = np.zeros(len(order) + 1, np.int32)
    places[order + 1] = np.arange(1, len(order) + 1)
    users = _same_features(old.user_features, prepared.user_features, "user")
    chunk = in_place(_one(list(prepared.chunks)), known.user_ids)
    titles = prepared.items.titles
    return replace(
        prepared,
        items=Entities(
            ids=[prepared.items.ids[row] for row in order],
            encoded=encoded,
            titles=None if titles is None else [titles[row] for row in order],
        ),
        user_features=tuple(users[feature.name][0] for feature in old.user_features),
        chunks=[
            replace(
                chunk,
                items=places[chunk.items],
                codes={name: _recoded(*users[name], codes) for name, codes in chunk.codes.items()},
            )
        ],
        extends=old,
        grown={
            "new items": len(order) - old.num_items,
            "new values of features": _more_values(old.item_features, features)
            + _more_values(old.user_features, users),
            "items that changed a feature": _changed(encoded, known),
            "new users": len(set(chunk.ids) - set(known.user_ids)),
            "users that are gone": len(set(known.user_ids) - set(chunk.ids)),
        },
    )


def _check_meaning(prepared: Prepared, old: Schema) -> None:
    """What a row says has to stay; how its source is read may change."""
    for what, before, now in other_meanings(prepared, old):
        raise DataError(
            f"{prepared.name}: the {what} was {before!r} and is {now!r} now, which is another "
            f"dataset; {WAY_OUT}"
        )


def other_meanings(prepared: Prepared, old: Schema) -> list[tuple[str, object, object]]:
    """What rows say otherwise than those of ``old``: its name, as it was, as it is."""
    told = (
        ("label rule", old.label_rule, prepared.label_rule),
        ("kind of rows", old.kind, prepared.kind),
        ("repeats as choices", old.repeats, prepared.repeats),
    )
    return [(what, before, now) for what, before, now in told if before != now]


def _order(prepared: Prepared, known: Known) -> Places:
    """Rows of the new catalogue: those of known items in their order, then the new ones."""
    rows = {name: row for row, name in enumerate(prepared.items.ids)}
    gone = [name for name in known.item_ids if name not in rows]
    order = [rows.pop(name) for name in known.item_ids if name in rows]
    new = list(rows)
    if gone:
        what = f"{len(gone)} of {len(known.item_ids)} items are not in the source any more"
        shown = f"the first is {gone[0]!r}"
        if len(new) >= len(gone):
            shown += f"; if {new[0]!r} is a new name, it is a new item"
        raise DataError(
            f"{prepared.name}: {what} ({shown}): a catalogue only grows; keep their rows, or "
            f"{WAY_OUT}"
        )
    return np.array([*order, *rows.values()], dtype=np.int64)


Recoding = tuple[Feature, NDArray[np.int32]]  # (size,) the code of each new code


def _same_features(
    old: tuple[Feature, ...], new: tuple[Feature, ...], of: str
) -> dict[str, Recoding]:
    """How each feature's new codes become those of the version before, and what is new after."""
    before, now = ({feature.name: feature for feature in side} for side in (old, new))
    for name in [*before, *now]:
        if name not in now or name not in before:
            became = "is gone" if name in before else "is new"
            raise DataError(
                f"{of} feature {name!r} {became}: every version has the same features; {WAY_OUT}"
            )
    return {name: _recoding(before[name], now[name], of) for name in before}


def _recoding(old: Feature, new: Feature, of: str) -> Recoding:
    if old.kind != new.kind:
        raise DataError(
            f"{of} feature {old.name!r} was of kind {old.kind} and is of kind {new.kind} now; "
            f"{WAY_OUT}"
        )
    if old.kind == "bucket" and (old.values, old.size) != (new.values, new.size):
        before, now = (", ".join(feature.values) for feature in (old, new))
        raise DataError(
            f"{of} feature {old.name!r} has other edges than before ({before}; now {now}): edges "
            f"never move; {WAY_OUT}"
        )
    size, width = max(old.size, new.size), max(old.width, new.width)
    if bool(old.values) != bool(new.values):
        raise DataError(
            f"{of} feature {old.name!r} had {'names' if old.values else 'no names'} of its values, "
            f"and {'has' if new.values else 'has no'} names now; {WAY_OUT}"
        )
    if not old.values or old.kind == "bucket":
        return replace(new, size=size, width=width), np.arange(new.size, dtype=np.int32)
    places = {value: code for code, value in enumerate(old.values, 1)}
    for value in new.values:
        places.setdefault(value, len(places) + 1)
    codes = np.array([0, *(places[value] for value in new.values)], dtype=np.int32)
    return replace(new, size=len(places) + 1, width=width, values=tuple(places)), codes


def _recoded(feature: Feature, recoding: NDArray[np.int32], codes: Codes) -> Codes:
    """Codes in the known vocabulary, (n,), or (n, width) with zeros behind them."""
    found = recoding[codes]
    if feature.kind != "multi":
        return found
    return np.pad(found, ((0, 0), (0, feature.width - found.shape[1])))


def _encoded(recoding: Recoding, given: Encoded, order: Places) -> Encoded:
    feature = recoding[0]
    if feature.kind == "id":
        codes = np.arange(1, len(order) + 1, dtype=np.int32)
        return replace(feature, size=len(order) + 1), codes
    return feature, _recoded(*recoding, given[1][order])


def _more_values(old: tuple[Feature, ...], new: dict[str, Recoding]) -> int:
    return sum(new[f.name][0].size - f.size for f in old if f.kind != "id")


def _changed(encoded: list[Encoded], known: Known) -> int:
    """How many known items have another value of a feature than they had."""
    changed = np.zeros(known.schema.num_items, dtype=bool)
    for feature, codes in encoded:
        before, now = known.item_codes[feature.name], codes[: len(changed)]
        if feature.kind == "multi":
            before = np.pad(before, ((0, 0), (0, now.shape[1] - before.shape[1])))
            changed |= (np.sort(before, axis=1) != np.sort(now, axis=1)).any(axis=1)
        else:
            changed |= before != now
    return int(changed.sum())


def _one(chunks: list[UserChunk]) -> UserChunk:
    """All users in one chunk."""
    if len(chunks) == 1:
        return chunks[0]
    names = chunks[0].codes
    return UserChunk(
        ids=[name for chunk in chunks for name in chunk.ids],
        codes={name: np.concatenate([chunk.codes[name] for chunk in chunks]) for name in names},
        sizes=np.concatenate([chunk.sizes for chunk in chunks]),
        items=np.concatenate([chunk.items for chunk in chunks]),
        labels=np.concatenate([chunk.labels for chunk in chunks]),
        times=np.concatenate([chunk.times for chunk in chunks]),
    )


def in_place(chunk: UserChunk, known: list[str]) -> UserChunk:
    """The users in their known places, new ones after them and where somebody is gone.

    A simulation's node is a user's place modulo the number of nodes, and has their private state.
    """
    rows = {name: row for row, name in enumerate(chunk.ids)}
    if len(rows) < len(chunk.ids):
        return chunk  # somebody is named twice; whoever writes it says so
    kept = [rows.pop(name, -1) for name in known]
    new = iter(rows.values())
    places = [row if row >= 0 else next(new, -1) for row in kept]
    places += new
    for hole in [place for place, row in enumerate(places) if row < 0]:
        while places[-1] < 0:  # more are gone than came: the last ones move up
            places.pop()
        if hole < len(places):
            places[hole] = places.pop()
    order = np.array(places, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(chunk.sizes)]).astype(np.int64)
    interactions = rows_between(starts[order], starts[order + 1])
    return UserChunk(
        ids=[chunk.ids[row] for row in order],
        codes={name: codes[order] for name, codes in chunk.codes.items()},
        sizes=chunk.sizes[order],
        items=chunk.items[interactions],
        labels=chunk.labels[interactions],
        times=chunk.times[interactions],
    )

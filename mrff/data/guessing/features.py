"""What the other columns say of items and of users."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.guessing.roles import WORDS, Roles, is_constant, words_of
from mrff.data.guessing.source import Source
from mrff.data.schema import RESERVED

_OF_USERS = WORDS["user"] | frozenset(
    ["age", "gender", "sex", "occupation", "job", "country", "region", "city"]
)
_TITLES = {"title", "name"}
_SEPARATORS = "|;,"
_OFTEN = 0.3  # share of texts that hold a separator, if it is one
_FEW_NUMBERS, _FEW_TEXTS = 12, 20
_MANY = 10_000  # values of a category


@dataclass
class Sides:
    """Lines of the TOML for items and for users, and the columns that are not used, with why."""

    title: str | None = None
    items: dict[str, str] = field(default_factory=dict)  # feature -> its text in TOML
    users: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def find_features(source: Source, roles: Roles) -> Sides:
    """A column that never changes for an item is one of its features; for a user likewise."""
    sides = Sides()
    for name in source.names:
        if name in roles.columns:
            continue
        entity = _entity(source, roles, name)
        if entity is None:
            sides.left[name] = "changes for items and for users, or never"
            continue
        of_items = entity == roles.item.value
        codes, first = np.unique(source.codes(entity), return_index=True)
        first = first[codes >= 0]
        texts = source.texts(name).take(pa.array(first))
        distinct = len(pc.unique(pc.drop_null(texts)))
        is_title = of_items and sides.title is None and _TITLES & {*words_of(name)}
        if is_title and 2 * distinct > len(first):
            sides.title = name
            continue
        spec = _spec(source, name, texts, first)
        if spec is None:
            sides.left[name] = f"{distinct:,} different texts for {len(first):,}: no category"
            continue
        key = f"{name}-value" if name in RESERVED or name == "item" else name
        column = "" if key == name else f", column = {json.dumps(name, ensure_ascii=False)}"
        feature = f'{{ kind = "{spec[0]}"{spec[1]}{column} }}'
        (sides.items if of_items else sides.users)[key] = (
            feature if spec[1] or column else f'"{spec[0]}"'
        )
    return sides


def _entity(source: Source, roles: Roles, name: str) -> str | None:
    """The column of the items or users that a column belongs to; by its name if it may be both."""
    if len(pc.unique(source.texts(name))) < 2:
        return None
    shown = {}  # how many rows could have contradicted
    for entity in (roles.item.value, roles.user.value):
        assert entity is not None
        again = source.table.num_rows - len(pc.unique(source.texts(entity)))
        if again and is_constant(source, name, entity):
            shown[entity] = again
    if len(shown) < 2:
        return next(iter(shown), None)
    return roles.user.value if _OF_USERS & {*words_of(name)} else max(shown, key=lambda e: shown[e])


def _spec(
    source: Source, name: str, texts: pa.Array, rows: NDArray[np.int64]
) -> tuple[str, str] | None:
    """Kind, and the rest of its table; None: nearly every one has a text of its own."""
    if source.is_list(name):
        return "multi", ""
    numbers = source.numbers(name)
    if numbers is not None:
        known = numbers[rows][np.isfinite(numbers[rows])]
        values = np.unique(known)
        if len(values) > _FEW_NUMBERS or (values % 1).any():
            return "bucket", f", edges = {_edges(known)}"
        return "categorical", ""
    there = pc.drop_null(texts)
    distinct = len(pc.unique(there))
    for separator in _SEPARATORS:
        parts = pc.list_flatten(pc.split_pattern(there, separator))
        often = len(parts) - len(there) >= _OFTEN * len(there)
        fewer = len(pc.unique(pc.utf8_trim_whitespace(parts))) < distinct
        if often and (fewer or separator == "|"):  # a comma may be part of a name
            return "multi", "" if separator == "|" else f', separator = "{separator}"'
    is_category = distinct <= min(max(_FEW_TEXTS, len(rows) // 2), _MANY)
    return ("categorical", "") if is_category else None


def _edges(values: NDArray[np.float64]) -> list[float]:
    """Four that cut the values into fifths, rounded; fewer where many are equal."""
    found = [float(f"{edge:.3g}") for edge in np.quantile(values, (0.2, 0.4, 0.6, 0.8))]
    edges = sorted({edge for edge in found if edge > values.min()}) or [float(values.max())]
    return [int(edge) if edge.is_integer() else edge for edge in edges]

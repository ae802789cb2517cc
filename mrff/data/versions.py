"""A dataset as an earlier version of its catalogue would have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mrff.data.dataset import Dataset, IntArray
from mrff.data.schema import Ancestor, Feature, Schema


def as_of(dataset: Dataset, version: Ancestor) -> Dataset:
    """Only what the version knew: rows of later items are left out, later values are unknown.

    An item that changed a feature since has it as it is now.
    """
    schema = _schema_as_of(dataset.schema, version)
    known = dataset.items <= version.num_items
    before = np.concatenate([[0], np.cumsum(known)])
    items, users = (
        {feature.name: feature.size for feature in features}
        for features in (schema.item_features, schema.user_features)
    )
    return replace(
        dataset.with_rows(known, before[dataset.offsets]),
        schema=schema,
        item_features={
            name: _known(codes[: version.num_items + 1], items[name])
            for name, codes in dataset.item_features.items()
        },
        user_features={
            name: _known(codes, users[name]) for name, codes in dataset.user_features.items()
        },
    )


def _schema_as_of(schema: Schema, version: Ancestor) -> Schema:
    return replace(
        schema,
        num_items=version.num_items,
        item_features=_cut(schema.item_features, version.item_sizes),
        user_features=_cut(schema.user_features, version.user_sizes),
    )


def _cut(features: tuple[Feature, ...], sizes: tuple[int, ...]) -> tuple[Feature, ...]:
    return tuple(
        replace(feature, size=size, values=feature.values[: size - 1])
        for feature, size in zip(features, sizes, strict=True)
    )


def _known(codes: IntArray, size: int) -> IntArray:
    return np.where(codes < size, codes, 0).astype(np.int32)

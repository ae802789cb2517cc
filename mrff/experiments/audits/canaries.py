"""Plants canaries in a dataset: users whose every interaction is with an item of their own.

The item has a value of its own in one feature, the item id where there is one: a row of that
feature's embedding table that nobody else can move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrff.config import ConfigError
from mrff.data.dataset import Dataset

TARGETS = 4  # training targets of a canary


@dataclass(frozen=True)
class Planted:
    """A dataset with canaries as its last users.

    Args:
        users: (m,) their rows in the dataset.
        items: (m,) the row of each one's item in the embedding table ``table``.
    """

    dataset: Dataset
    users: np.ndarray
    items: np.ndarray
    table: str


def plant(dataset: Dataset, canaries: int, *, holdout: int) -> Planted:
    """Adds ``canaries`` users and as many items.

    Raises:
        ConfigError: no feature can tell an item from all others.
    """
    schema = dataset.schema
    single = [feature for feature in schema.item_features if feature.kind != "multi"]
    if not single:
        raise ConfigError(
            f"dataset {schema.name} has no item feature with one value per item: canaries need a "
            "value of their own; audit with a dataset such as ml-100k"
        )
    marked = next((feature for feature in single if feature.kind == "id"), single[0])
    features = tuple(
        replace(f, size=f.size + canaries) if f is marked else f for f in schema.item_features
    )
    new = np.arange(canaries, dtype=np.int32)
    items = schema.num_items + 1 + new
    codes = {name: _longer(known, canaries) for name, known in dataset.item_features.items()}
    codes[marked.name][-canaries:] = marked.size + new
    length = TARGETS + 2 * holdout
    num_users = dataset.num_users
    keys = np.uint64(2**64 - 1) - np.arange(canaries, dtype=np.uint64)
    planted = replace(
        dataset,
        schema=replace(
            schema,
            item_features=features,
            num_items=schema.num_items + canaries,
            counts={**schema.counts, "users": num_users + canaries},
        ),
        item_features=codes,
        user_ids=np.concatenate([dataset.user_ids, [f"canary {n}" for n in range(canaries)]]),
        user_keys=np.concatenate([dataset.user_keys, keys]),
        user_features={
            name: _longer(known, canaries) for name, known in dataset.user_features.items()
        },
        offsets=np.concatenate(
            [dataset.offsets, dataset.offsets[-1] + length * (1 + np.arange(canaries))]
        ),
        items=np.concatenate([dataset.items, np.repeat(items, length)]).astype(np.int32),
        labels=np.concatenate([dataset.labels, np.ones(length * canaries, np.int8)]),
        same_time=np.concatenate([dataset.same_time, np.zeros(length * canaries, bool)]),
        times=_times(dataset, length, canaries),
    )
    return Planted(
        dataset=planted,
        users=num_users + np.arange(canaries),
        items=marked.size + new.astype(np.int64),
        table=f"item_features.{marked.name}_table.weight",
    )


def _times(dataset: Dataset, length: int, canaries: int) -> np.ndarray | None:
    """The times there are, then the canaries' rows, each user's one after the other."""
    if dataset.times is None:
        return None
    return np.concatenate([dataset.times, np.tile(np.arange(length), canaries)])


def _longer(codes: np.ndarray, canaries: int) -> np.ndarray:
    """The codes (n, ...) with unknown ones, 0, of the canaries at the end."""
    return np.concatenate([codes, np.zeros((canaries, *codes.shape[1:]), codes.dtype)])

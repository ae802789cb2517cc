"""A made-up population of any size, written chunk by chunk as a prepared folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrff.data.schema import Feature, Schema
from mrff.data.writing import Entities, Prepared, UserChunk, write_folder

NUM_ITEMS = 10_000
CHUNK_USERS = 20_000
SIZES = (10, 20, 40, 300)  # codes of the items' features


def write_population(folder: Path, users: int, *, seed: int = 0) -> Schema:
    """Users with 5 to 67 interactions, half of them with fewer than 24; clicks follow a category.

    Users are drawn one chunk after the other: memory does not grow with their number.
    """
    random = np.random.default_rng(seed)
    features = [Feature(f"feature_{n}", "categorical", size) for n, size in enumerate(SIZES)]
    codes = [random.integers(1, f.size, NUM_ITEMS).astype(np.int32) for f in features]
    items = Entities(
        [f"item {n}" for n in range(NUM_ITEMS)], list(zip(features, codes, strict=True))
    )
    folder.mkdir(parents=True, exist_ok=True)
    prepared = Prepared(
        name="synthetic",
        label_rule="made up",
        items=items,
        user_features=(Feature("age", "bucket", 8),),
        chunks=_chunks(users, codes[0], random),
    )
    return write_folder(prepared, folder, source={"seed": seed})


def _chunks(users: int, category: np.ndarray, random: np.random.Generator) -> Iterator[UserChunk]:
    for first in range(0, users, CHUNK_USERS):
        count = min(CHUNK_USERS, users - first)
        sizes = np.minimum(5 + random.exponential(27, count), 67).astype(np.int64)
        total = int(sizes.sum())
        items = random.integers(1, NUM_ITEMS + 1, total).astype(np.int32)
        liked = np.repeat(random.integers(1, SIZES[0], count), sizes)
        chance = np.where(category[items - 1] % 3 == liked % 3, 0.75, 0.3)
        yield UserChunk(
            ids=[f"user {n}" for n in range(first, first + count)],
            codes={"age": random.integers(0, 8, count).astype(np.int32)},
            sizes=sizes,
            items=items,
            labels=(random.random(total) < chance).astype(np.int8),
            times=np.arange(total, dtype=np.int64),
        )

"""A small prepared folder, made by the program's own writer from columns one can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrff.data.schema import Feature, Schema
from mrff.data.writing import Entities, Prepared, UserChunk, write_folder

GENRES = np.array([[1, 2], [2, 0], [0, 0], [1, 0]], dtype=np.int32)


def catalogue() -> Entities:
    """Four items with their id and at most two of two genres."""
    return Entities(
        ids=["a", "b", "c", "d"],
        encoded=[
            (Feature("item", "id", 5), np.arange(1, 5, dtype=np.int32)),
            (Feature("genres", "multi", 3, 2, ("red", "blue")), GENRES),
        ],
        titles=["A", "B", "C", "D"],
    )


def chunk(histories: list[list[tuple[int, int]]], *, first: int = 0) -> UserChunk:
    """Users with (item, label) histories; user n has age code n % 3."""
    rows = [row for history in histories for row in history]
    ages = (first + np.arange(len(histories))) % 3
    return UserChunk(
        ids=[f"user {first + number}" for number in range(len(histories))],
        codes={"age": ages.astype(np.int32)},
        sizes=np.array([len(history) for history in histories], dtype=np.int64),
        items=np.array([item for item, _ in rows], dtype=np.int32),
        labels=np.array([label for _, label in rows], dtype=np.int8),
        times=np.concatenate([np.arange(len(h)) for h in histories]).astype(np.int64),
    )


def prepared(chunks: list[UserChunk]) -> Prepared:
    """A dataset of these users."""
    return Prepared(
        name="small",
        label_rule="made up",
        items=catalogue(),
        user_features=(Feature("age", "bucket", 3),),
        chunks=chunks,
    )


def write(folder: Path, histories: list[list[tuple[int, int]]]) -> Schema:
    """Writes a prepared folder with these users."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_folder(prepared([chunk(histories)]), folder, source={"recipe": "small"})


def alternating(*sizes: int) -> list[list[tuple[int, int]]]:
    """Histories of the given lengths: items 1 2 3 4 1 ..., labels 1 0 1 ..."""
    return [[(n % 4 + 1, (n + 1) % 2) for n in range(size)] for size in sizes]

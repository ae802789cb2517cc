"""How an item is told from all others (``network.item-ids``), and what that costs.

A row of its own for every item is most of what travels in a round. Two hashed rows, each shared
with other items, still tell nearly every pair of items apart: compositional embeddings (Shi et al.
2020, "Compositional Embeddings Using Complementary Partitions"; two hash functions as in Svenstrup
et al. 2017, "Hash Embeddings"). Hashes depend on an item's code alone, so that a catalogue that
grows moves no item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrff_model.features import DatasetFeatures, FeatureSpec

HASHES = 2
_MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B)  # odd: Knuth's multiplicative hashing, modulo 2**32


@dataclass(frozen=True)
class _Hashed:
    """The item itself, as two rows of a table that many items share."""

    name: str
    size: int
    kind: str = "hashed"


def _full(features: DatasetFeatures, rows: int) -> DatasetFeatures:
    """A row for every item."""
    return features


def _hashed(features: DatasetFeatures, rows: int) -> DatasetFeatures:
    """The mean of two rows, one in each half of ``2 * rows``."""
    items: list[FeatureSpec] = []
    catalogue = dict(features.catalogue)
    for feature in features.items:
        if feature.kind == "id":
            catalogue[feature.name] = hashes_of(catalogue[feature.name], rows)
            feature = _Hashed(feature.name, 1 + HASHES * rows)
        items.append(feature)
    return replace(features, items=items, catalogue=catalogue)


def _features(features: DatasetFeatures, rows: int) -> DatasetFeatures:
    """No row at all: what the catalogue says, and an item's one number where heads have one."""
    return replace(features, items=[f for f in features.items if f.kind != "id"])


def hashes_of(codes: Tensor, rows: int) -> Tensor:
    """(items + 1,) codes -> (items + 1, 2): rows 1 to ``rows``, and the ``rows`` after them.

    Code 0, padding, stays 0.
    """
    places = [
        ((codes.long() * odd) % 2**32 * rows) >> 32  # the high bits are the mixed ones
        for odd in _MULTIPLIERS
    ]
    table = torch.stack([1 + place + rows * n for n, place in enumerate(places)], dim=-1)
    return torch.where(codes.unsqueeze(-1) > 0, table, 0)


ITEM_IDS: Mapping[str, Callable[[DatasetFeatures, int], DatasetFeatures]] = {
    "full": _full,
    "hashed": _hashed,
    "features": _features,
}
"""What a network reads of items' ids, by ``network.item-ids``."""

"""The numbers of a dataset that settings follow from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrff.config.fitting import DataFacts
from mrff.data.clock import nanoseconds
from mrff.data.dataset import load_sizes, load_times
from mrff.data.schema import INTERACTIONS_FILE, Schema


def facts_of(folder: Path, schema: Schema) -> DataFacts | None:
    """The numbers; None for a node's shard or a server's public part, which tell them of nobody."""
    if "shard" in schema.source or not (folder / INTERACTIONS_FILE).is_file():
        return None
    sizes = load_sizes(folder)
    return DataFacts(
        users=len(sizes),
        items=schema.num_items,
        rows=int(sizes.sum()),
        median=float(np.median(sizes)),
        longest=int(sizes.max(initial=0)),
        items_have_ids=any(feature.kind == "id" for feature in schema.item_features),
        positive=schema.counts.get("positive", 0) / max(schema.counts.get("interactions", 0), 1),
        kinds=sum(feature.kind != "id" for feature in schema.item_features),
        real_times=nanoseconds(load_times(folder)) is not None,
    )

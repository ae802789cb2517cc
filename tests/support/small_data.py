"""A small dataset and configuration for tests, made in code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrff.config import RunConfig, full_names
from mrff.data.dataset import Dataset
from mrff.data.schema import Feature, Schema
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.privacy.mechanisms.none import NoMechanism
from mrff.sums import NodeView
from mrff_model.building import build_network
from mrff_model.network import MRFFNetwork

NUM_ITEMS = 12


def small_dataset(sizes: tuple[int, ...] = (9, 4, 14, 6), *, seed: int = 0) -> Dataset:
    """Users with ``sizes`` interactions on 12 items with an id, two genres and a category."""
    random = np.random.default_rng(seed)
    genres = random.integers(0, 4, (NUM_ITEMS + 1, 2))
    category = random.integers(1, 4, NUM_ITEMS + 1)
    genres[0], category[0] = 0, 0
    total = sum(sizes)
    schema = Schema(
        name="small",
        label_rule="made up",
        item_features=(
            Feature("item_id", "id", NUM_ITEMS + 1),
            Feature("genres", "multi", 4, width=2),
            Feature("category", "categorical", 4),
        ),
        user_features=(Feature("age", "bucket", 5),),
        num_items=NUM_ITEMS,
        catalogue_hash="none",
    )
    return Dataset(
        schema=schema,
        item_features={
            "item_id": np.arange(NUM_ITEMS + 1, dtype=np.int32),
            "genres": genres.astype(np.int32),
            "category": category.astype(np.int32),
        },
        user_ids=np.array([f"user {n}" for n in range(len(sizes))]),
        user_keys=np.arange(1, len(sizes) + 1, dtype=np.uint64) * np.uint64(7_777_777_777),
        user_features={"age": random.integers(0, 5, len(sizes)).astype(np.int32)},
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        items=random.integers(1, NUM_ITEMS + 1, total).astype(np.int32),
        labels=random.integers(0, 2, total).astype(np.int8),
        same_time=np.arange(total) % 3 == 1,
    )


def at_times(dataset: Dataset, times: Sequence[int] | np.ndarray) -> Dataset:
    """The dataset with its rows at ``times``, labels being known at later ones only."""
    rows = np.asarray(times, dtype=np.int64)
    same = np.diff(rows, prepend=rows[0] - 1) == 0
    same[dataset.offsets[dataset.offsets < len(rows)]] = False
    return replace(dataset, times=rows, same_time=same, knows_same_time=False)


def small_config(**changes: bool | int | float | str) -> RunConfig:
    """A configuration of small sizes; keyword arguments are settings in snake_case."""
    values: dict[str, bool | int | float | str] = {
        "feature-dim": 3,
        "window-length": 8,
        "head-dim": 5,
        "user-network-dim": 4,
        "user-embedding-dim": 3,
        "num-experts": 3,
        "sampling-rate": 1.0,
        "local-learning-rate": 0.1,
        "dropout": 0.0,
    }
    values |= {name.replace("_", "-"): value for name, value in changes.items()}
    return RunConfig.from_flat(full_names(values))


def small_network(config: RunConfig, dataset: Dataset) -> MRFFNetwork:
    """The network of ``config`` for ``dataset``."""
    return build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )


def node_view(
    config: RunConfig, dataset: Dataset, users: np.ndarray, terms: Mapping[str, float] | None = None
) -> NodeView:
    """A node that holds ``users`` (U,), in round 1."""
    return NodeView(
        config=config,
        user_keys=dataset.user_keys[users],
        population=("small",),
        ledger_folder=Path("no ledger in this test"),
        limits={},
        training="small",
        round_number=1,
        terms=terms or {},
    )


def plain_client(config: RunConfig, dataset: Dataset) -> ClientHalf:
    """A node's half of no mechanism: exact sums."""
    return NoMechanism().client(node_view(config, dataset, np.arange(dataset.num_users)))

"""What a run starts from: the public catalogue of its dataset and the initial shared model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger

import numpy as np

from mrff.config import RunConfig
from mrff.data.dataset import load_catalogue
from mrff.data.schema import Schema
from mrff_model.building import Arrays, build_network, initial_shared
from mrff_model.scopes import cluster_name
from server_app.data_folder import is_prepared
from strategies.state import TrainingState

log = getLogger("flwr")
SEED_STEP = 0x9E3779B97F4A7C15  # far from any seed that a user would compare with


@dataclass(frozen=True)
class Catalogue:
    """The schema, and the items' codes by feature: (items + 1,) or (items + 1, M)."""

    schema: Schema
    item_codes: Mapping[str, np.ndarray]


def open_catalogue(config: RunConfig) -> Catalogue:
    """Reads the catalogue; a dataset with a recipe is prepared on its first use.

    Raises:
        ConfigError: ``data-dir`` holds no prepared dataset.
        DataError: the dataset cannot be prepared or read.
    """
    if not is_prepared(config):
        _prepare(config)
    schema, item_codes = load_catalogue(config.dataset_path)
    return Catalogue(schema, item_codes)


def initial_state(config: RunConfig, catalogue: Catalogue) -> TrainingState:
    """The state of a run before its first round; it depends on configuration and schema only."""
    if not config.network.clusters:
        public, group = _initial_arrays(config, catalogue, config.training.seed)
        return TrainingState(public=public, group=group)
    copies = {}  # each from its own random values, or all users would choose the same
    for cluster in range(config.network.clusters):
        seed = (config.training.seed + cluster * SEED_STEP) % 2**63
        public, group = _initial_arrays(config, catalogue, seed)
        for name, array in {**public, **group}.items():
            copies[cluster_name(cluster, name)] = array
    return TrainingState(public={}, group=copies)


def _initial_arrays(config: RunConfig, catalogue: Catalogue, seed: int) -> tuple[Arrays, Arrays]:
    """Public and group arrays of a new network."""
    schema = catalogue.schema
    network = build_network(
        item_features=schema.item_features,
        item_codes=catalogue.item_codes,
        user_features=schema.user_features if config.network.user_features else (),
        **{**config.network_arguments(), "seed": seed},
    )
    return initial_shared(network, experts_alike=config.pools_experts)


def _prepare(config: RunConfig) -> None:
    from mrff.data.prepare import prepare  # brings pandas, which a prepared dataset does not need

    log.info("preparing dataset %s in %s (first use)", config.data.dataset, config.dataset_path)
    reported: set[str] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage not in reported:
            reported.add(stage)
            log.info("  %s", stage)

    prepare(config.data.dataset, out=config.dataset_path, progress=progress)

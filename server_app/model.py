"""What a run starts from: the public catalogue of its dataset and the initial shared model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger

import numpy as np

from mrff_config import ConfigError, RunConfig
from mrff_data.dataset import load_catalogue
from mrff_data.schema import SCHEMA_FILE, Schema
from mrff_model.building import build_network, initial_shared
from strategies.state import TrainingState

log = getLogger("flwr")


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
    folder = config.dataset_path
    if not (folder / SCHEMA_FILE).exists():
        if config.data.data_dir:
            raise ConfigError(
                f"data-dir={config.data.data_dir!r} holds no prepared dataset "
                f"({folder / SCHEMA_FILE} is missing); make it with: mrff data prepare"
            )
        _prepare(config)
    schema, item_codes = load_catalogue(folder)
    return Catalogue(schema, item_codes)


def initial_state(config: RunConfig, catalogue: Catalogue) -> TrainingState:
    """The state of a run before its first round; it depends on configuration and schema only."""
    schema = catalogue.schema
    network = build_network(
        item_features=schema.item_features,
        item_codes=catalogue.item_codes,
        user_features=schema.user_features if config.network.user_features else (),
        **config.network_arguments(),
    )
    public, group = initial_shared(network)
    return TrainingState(public=public, group=group)


def _prepare(config: RunConfig) -> None:
    from mrff_data.prepare import prepare  # brings pandas, which a prepared dataset does not need

    log.info("preparing dataset %s in %s (first use)", config.data.dataset, config.dataset_path)
    reported: set[str] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage not in reported:
            reported.add(stage)
            log.info("  %s", stage)

    prepare(config.data.dataset, out=config.dataset_path, progress=progress)

"""What a run starts from: the public catalogue of its dataset and the initial shared model."""

from __future__ import annotations

import re
from logging import getLogger

import numpy as np

from mrff.algorithms import algorithm_of, network_of
from mrff.config import RunConfig
from mrff.data.dataset import Catalogue, load_catalogue
from mrff_model.shared import Network
from server_app.data_folder import is_prepared
from strategies.state import TrainingState

log = getLogger("flwr")
_CLICK_BIAS = re.compile(r"(clusters\.\d+\.)?head\.down\.bias")


def open_catalogue(config: RunConfig) -> Catalogue:
    """Reads the catalogue; a dataset with a recipe is prepared on its first use.

    Raises:
        ConfigError: ``data-dir`` holds no prepared dataset.
        DataError: the dataset cannot be prepared or read.
    """
    if not is_prepared(config):
        _prepare(config)
    return load_catalogue(config.dataset_path)


def initial_state(config: RunConfig, catalogue: Catalogue) -> TrainingState:
    """The state of a run before its first round; it depends on configuration and schema only."""

    def build(seed: int) -> Network:
        return network_of(config, catalogue.schema, catalogue.item_codes, seed=seed)

    public, group = algorithm_of(config).first_model(config, build)
    for arrays in (public, group):
        for name in filter(_CLICK_BIAS.fullmatch, arrays):
            arrays[name] = arrays[name] + np.float32(config.training.initial_logit)
    return TrainingState(public=public, group=group)


def _prepare(config: RunConfig) -> None:
    from mrff.data.prepare import prepare  # pyarrow's readers: a prepared dataset needs none

    log.info("preparing dataset %s in %s (first use)", config.data.dataset, config.dataset_path)
    reported: set[str] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage not in reported:
            reported.add(stage)
            log.info("  %s", stage)

    prepare(config.data.dataset, out=config.dataset_path, progress=progress)

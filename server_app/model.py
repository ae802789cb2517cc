"""The shared model that a run starts from."""

from __future__ import annotations

import re

import numpy as np

from mrff.algorithms import algorithm_of, network_of
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Catalogue
from mrff.wire.requests import Arrays
from mrff_model.shared import Network
from server_app.item_start import ITEM_STARTS
from strategies.state import TrainingState

_ITEM_ROWS = re.compile(r"(clusters\.\d+\.)?item_features\.(?P<feature>.+)_table\.weight")
_CLICK_BIAS = re.compile(r"(clusters\.\d+\.)?head\.down\.bias")


def initial_state(config: RunConfig, catalogue: Catalogue) -> TrainingState:
    """The state of a run before its first round; it depends on configuration and catalogue only.

    Raises:
        ConfigError: a start that the catalogue has nothing for.
    """

    def build(seed: int) -> Network:
        return network_of(config, catalogue.schema, catalogue.item_codes, seed=seed)

    public, group = algorithm_of(config).first_model(config, build)
    for arrays in (public, group):
        for name in filter(_CLICK_BIAS.fullmatch, arrays):
            arrays[name] = arrays[name] + np.float32(config.training.initial_logit)
    _start_items(config, catalogue, [public, group])
    return TrainingState(public=public, group=group)


def _start_items(config: RunConfig, catalogue: Catalogue, model: list[Arrays]) -> None:
    kind, scale = config.training.item_start, config.network.initial_scale
    tables = [(arrays, name) for arrays in model for name in _item_tables(catalogue, arrays)]
    if kind != "random" and not tables:
        raise ConfigError(
            f"training.item-start={kind}: training.algorithm={algorithm_of(config).name} on "
            f"{catalogue.schema.name} has no rows of items to begin with; use "
            "training.item-start=random"
        )
    for arrays, name in tables:
        arrays[name] = ITEM_STARTS[kind](arrays[name], catalogue, scale)


def _item_tables(catalogue: Catalogue, arrays: Arrays) -> list[str]:
    """Names of the arrays with a row for each item."""
    ids = {feature.name for feature in catalogue.schema.item_features if feature.kind == "id"}
    found = ((name, _ITEM_ROWS.fullmatch(name)) for name in arrays)
    return [name for name, match in found if match and match["feature"] in ids]

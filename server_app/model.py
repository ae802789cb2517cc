"""The shared model that a run starts from."""

from __future__ import annotations

import re

import numpy as np

from mrff.algorithms import algorithm_of, network_of
from mrff.config import RunConfig
from mrff.data.dataset import Catalogue
from mrff_model.shared import Network
from strategies.state import TrainingState

_CLICK_BIAS = re.compile(r"(clusters\.\d+\.)?head\.down\.bias")


def initial_state(config: RunConfig, catalogue: Catalogue) -> TrainingState:
    """The state of a run before its first round; it depends on configuration and schema only."""

    def build(seed: int) -> Network:
        return network_of(config, catalogue.schema, catalogue.item_codes, seed=seed)

    public, group = algorithm_of(config).first_model(config, build)
    for arrays in (public, group):
        for name in filter(_CLICK_BIAS.fullmatch, arrays):
            arrays[name] = arrays[name] + np.float32(config.training.initial_logit)
    return TrainingState(public=public, group=group)

"""Algorithms with halves of their own. A new one: its file, and its line in `ALGORITHMS`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrff.algorithms.base import Algorithm
from mrff.algorithms.clusters import Clusters
from mrff.algorithms.factors import FedMF, PFedRec
from mrff.config import ConfigError, RunConfig
from mrff_model.building import FeatureSchema, features_of, made
from mrff_model.shape import NetworkShape
from mrff_model.shared import Network

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm for algorithm in (Algorithm(), Clusters(), FedMF(), PFedRec())
}


def algorithm_of(config: RunConfig) -> Algorithm:
    """The configured algorithm; where none is named, the one that ``network.clusters`` means.

    Raises:
        ConfigError: there is none of that name, or it cannot run by these settings.
    """
    name = config.training.algorithm or ("clusters" if config.network.clusters else "mrff")
    if name not in ALGORITHMS:
        raise ConfigError(
            f"training.algorithm must be one of {', '.join(ALGORITHMS)}, or auto, got {name!r}"
        )
    algorithm = ALGORITHMS[name]
    for conflict in algorithm.conflicts(config):
        raise ConfigError(conflict)
    return algorithm


def network_of(
    config: RunConfig, schema: FeatureSchema, item_codes: Mapping[str, np.ndarray], *, seed: int
) -> Network:
    """The network of the configured algorithm as it starts; see `mrff_model.building`."""
    features, shape = features_of(schema, item_codes), NetworkShape(**config.network_arguments())
    return made(lambda: algorithm_of(config).network(shape, features), seed)

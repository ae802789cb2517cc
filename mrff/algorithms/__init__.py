"""Algorithms with halves of their own. A new one: its file, and its line in `ALGORITHMS`."""

from __future__ import annotations

from mrff.algorithms.base import Algorithm
from mrff.algorithms.clusters import Clusters
from mrff.config import ConfigError, RunConfig

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm for algorithm in (Algorithm(), Clusters())
}


def algorithm_of(config: RunConfig) -> Algorithm:
    """The configured algorithm; where none is named, the one that ``network.clusters`` means.

    Raises:
        ConfigError: there is none of that name.
    """
    name = config.training.algorithm or ("clusters" if config.network.clusters else "mrff")
    if name not in ALGORITHMS:
        raise ConfigError(
            f"training.algorithm must be one of {', '.join(ALGORITHMS)}, or auto, got {name!r}"
        )
    return ALGORITHMS[name]

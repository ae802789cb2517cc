"""What an algorithm is: a client half around a learner, a server half that makes the first model.

What is not the algorithm's own (local steps, mechanisms, messages, the server's step) is the same
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mrff.algorithms.learning import Learner
from mrff.config import RunConfig
from mrff_model.building import Arrays, initial_shared
from mrff_model.features import DatasetFeatures
from mrff_model.network import MRFFNetwork
from mrff_model.shape import NetworkShape
from mrff_model.shared import Network

Build = Callable[[int], Network]  # a network with the initial values of a seed


class Algorithm:
    """MRFF itself: one shared network, whose experts users choose from."""

    name = "mrff"

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        """Why the algorithm cannot run by these settings, each with the way out."""
        yield from ()

    def network(self, shape: NetworkShape, features: DatasetFeatures) -> Network:
        """What is trained, as `mrff_model.building.made` makes it on both ends."""
        return MRFFNetwork(shape, features)

    def learner(self, learner: Learner, config: RunConfig) -> Learner:
        """Client half: what trains and scores a node's users, made of what trains one network."""
        return learner

    def first_model(self, config: RunConfig, build: Build) -> tuple[Arrays, Arrays]:
        """Server half: public arrays and group arrays before the first round."""
        return initial_shared(build(config.training.seed), experts_alike=config.pools_experts)

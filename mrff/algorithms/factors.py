"""Rivals that factorise: a shared item table, and what scores it is a user's own.

FedMF (Chai et al., "Secure federated matrix factorization", IEEE Intelligent Systems 2021, without
its encryption): a user's vector stays with them, the server averages their items' changes. PFedRec
(Zhang et al., "Dual personalization on federated recommendation", IJCAI 2023): a user learns a
score function of their own, then fine-tunes the items with it; the server averages the tables, and
the user is scored by their own fine-tuned one. Both learn by binary cross-entropy on the items of
the training part and ``training.negatives`` drawn for each (`client_app.learners.negatives`).
"""

from __future__ import annotations

from collections.abc import Iterator

from mrff.algorithms.base import Algorithm
from mrff.config import RunConfig
from mrff_model.factors import FactorNetwork
from mrff_model.features import DatasetFeatures
from mrff_model.shape import NetworkShape
from mrff_model.shared import Network


class FedMF(Algorithm):
    """See the module. ``network.feature-dim`` is the number of factors.

    ``training.local-steps`` are passes over a user's samples in batches of
    ``training.local-batch``; ``training.local-learning-rate`` moves items,
    ``training.private-learning-rate`` what is the user's.
    """

    name = "fedmf"
    personal = False

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        """See `Algorithm.conflicts`."""
        named, training = f"training.algorithm={self.name}", config.training
        if config.objective != "next":
            yield (
                f"{named} cannot go with training.objective={config.objective}: it learns which "
                "item a user takes; choose training.objective=next"
            )
        if config.privacy.mode != "none":
            yield (
                f"{named} cannot go with privacy.mode={config.privacy.mode}: it is a rival to "
                "compare with, without bounds on what a user adds; use privacy.mode=none"
            )
        if training.local_optimizer != "sgd":
            yield (
                f"{named} cannot go with training.local-optimizer={training.local_optimizer}: its "
                "steps are plain ones; use training.local-optimizer=sgd"
            )
        if config.network.clusters:
            yield (
                f"{named} cannot go with network.clusters={config.network.clusters}: there is one "
                "item table; use network.clusters=off"
            )

    def network(self, shape: NetworkShape, features: DatasetFeatures) -> Network:
        """See `Algorithm.network`."""
        return FactorNetwork(
            len(next(iter(features.catalogue.values()))),
            shape.feature_dim,
            scale=shape.initial_scale,
            bias=shape.user_bias,
            personal=self.personal,
        )


class PFedRec(FedMF):
    """See the module."""

    name = "pfedrec"
    personal = True

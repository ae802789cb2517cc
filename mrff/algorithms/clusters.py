"""Clustered learning: every user takes the copy of the network that fits them.

IFCA (Ghosh et al., "An Efficient Framework for Clustered Federated Learning", NeurIPS 2020,
algorithm 1): a user chooses the copy with the lowest loss on their training data and trains that
one; the server averages each copy over those who chose it. Copies travel as group arrays
``clusters.K.NAME``: for server and messages a copy is an expert of a single layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mrff.algorithms.base import Algorithm, Build
from mrff.algorithms.learning import Cohort, Learner, SharedModel, Trained
from mrff.config import RunConfig
from mrff.metrics.metric import Ranks, Scored
from mrff.metrics.routes import route_counts
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import CohortSums
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.requests import Part
from mrff_model.building import Arrays, initial_shared
from mrff_model.scopes import cluster_name, cluster_part, is_expert

SEED_STEP = 0x9E3779B97F4A7C15  # far from any seed that a user would compare with
SUMMED = ("users", "targets", "loss", "weight")


class Clusters(Algorithm):
    """See `Algorithm`; ``network.clusters`` says how many copies there are."""

    name = "clusters"

    def learner(self, learner: Learner, config: RunConfig) -> Learner:
        """See `Algorithm.learner`."""
        return ClusterLearner(learner, config.network.clusters or 1)

    def first_model(self, config: RunConfig, build: Build) -> tuple[Arrays, Arrays]:
        """Each copy from its own random values, or all users would choose the same."""
        copies: Arrays = {}
        for cluster in range(config.network.clusters or 1):
            seed = (config.training.seed + cluster * SEED_STEP) % 2**63
            public, group = initial_shared(build(seed))
            named = {**public, **group}
            copies |= {cluster_name(cluster, name): array for name, array in named.items()}
        return {}, copies


class ClusterLearner:
    """Trains and scores with another learner; routes are (U, 1), the chosen copy.

    Args:
        learner: for the users of one copy.
        clusters: K.
    """

    def __init__(self, learner: Learner, clusters: int) -> None:
        self._learner, self._clusters = learner, clusters

    def train(self, model: SharedModel, cohort: Cohort, mechanism: ClientHalf) -> Trained:
        """See `Learner.train`; nothing is public."""
        done = Trained.nothing_yet(cohort, num_layers=1)
        sums, weight = CohortSums(), np.zeros((1, self._clusters))
        for cluster, rows in self._chosen(model, cohort):
            trained = self._learner.train(_copy(model, cluster), cohort.part(rows), mechanism)
            for name, values in trained.private.items():
                done.private[name][torch.from_numpy(rows)] = values
            done.kept[rows], done.routes[rows[trained.kept], 0] = trained.kept, cluster
            weight[0, cluster] = trained.sums.number("weight")
            updates = {cluster_name(cluster, n): v for n, v in trained.sums.updates.items()}
            numbers = {n: v for n, v in trained.sums.numbers.items() if n in SUMMED}
            sums += CohortSums(updates, numbers)
        kept = done.kept
        routes = route_counts(cohort.routes[kept], done.routes[kept], self._clusters)
        sums += CohortSums({}, as_numbers({**routes, "expert_weight": weight}))
        return replace(done, sums=sums)

    def score(self, model: SharedModel, cohort: Cohort, part: Part) -> Scored:
        """See `Learner.score`."""
        parts = [
            (rows, cluster, self._learner.score(_copy(model, cluster), cohort.part(rows), part))
            for cluster, rows in self._chosen(model, cohort)
        ]
        order = np.argsort(np.concatenate([rows for rows, _, _ in parts]), kind="stable")
        ranks = [scored.ranks for _, _, scored in parts if scored.ranks is not None]
        return Scored(
            ranks=Ranks.joined(ranks, order) if ranks else None,
            logits=np.concatenate([scored.logits for _, _, scored in parts])[order],
            labels=np.concatenate([scored.labels for _, _, scored in parts])[order],
            routes=np.concatenate([np.full((len(r), 1), c) for r, c, _ in parts])[order],
            before=cohort.routes,
        )

    def losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """See `Learner.losses`: those of the copy that fits best."""
        return self._losses(model, cohort).min(axis=0)

    def _losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """(K, U) of every copy; infinite where one is not finite."""
        copies = (_copy(model, cluster) for cluster in range(self._clusters))
        losses = np.stack([self._learner.losses(copy, cohort) for copy in copies])
        return np.nan_to_num(losses, nan=np.inf)

    def _chosen(self, model: SharedModel, cohort: Cohort) -> list[tuple[int, np.ndarray]]:
        """Copies that somebody takes, with the rows of those who do."""
        best = self._losses(model, cohort).argmin(axis=0)
        rows = [(cluster, np.flatnonzero(best == cluster)) for cluster in range(self._clusters)]
        return [(cluster, chosen) for cluster, chosen in rows if len(chosen)]


def _copy(model: SharedModel, cluster: int) -> SharedModel:
    """One copy as a model of its own."""
    arrays = cluster_part(model.group, cluster)
    group = {name: value for name, value in arrays.items() if is_expert(name)}
    public = {name: value for name, value in arrays.items() if name not in group}
    return replace(model, public=public, group=group, loads=None)

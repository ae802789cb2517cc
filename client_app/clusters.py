"""Clustered learning: K copies of the whole network, and each user takes the one that fits him.

IFCA (Ghosh et al., "An Efficient Framework for Clustered Federated Learning", NeurIPS 2020,
algorithm 1): a user chooses the copy with the lowest loss on his training data and trains that one;
the server averages each copy over those who chose it. Copies travel as group arrays
``clusters.K.NAME``: for server and messages a copy is an expert of a single layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from client_app.cohort_chunks import ChunkLimits, chunks_of, compute, training_sizes
from client_app.evaluation import Part, Scorer, Scores
from client_app.training import Cohort, Start, Trained, Trainer, training_batch
from mrff.config import DataSettings, TrainingSettings
from mrff_model.building import load_shared, tensors_of
from mrff_model.losses import user_losses
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import cluster_name, cluster_part, expert_of

# Without gradients a chunk of so many positions needs some tens of MB.
LIMITS = ChunkLimits(positions=8192, memory=2**30, memory_per_position=0, memory_per_user=1)


class ClusterTrainer:
    """Trains every user's own copy of the network with another trainer; see `Trainer`.

    Args:
        trainer: for the users of one copy.
        clusters: K.
    """

    def __init__(self, trainer: Trainer, clusters: int) -> None:
        self._trainer, self._clusters = trainer, clusters

    def __call__(
        self,
        network: MRFFNetwork,
        start: Start,
        cohort: Cohort,
        *,
        data: DataSettings,
        training: TrainingSettings,
    ) -> Trained:
        """Routes are (U, 1), the chosen copy; nothing is public."""
        chosen = best_copies(network, start.group, cohort, data, self._clusters)
        num_users, shape = len(chosen), (1, self._clusters)
        private = {name: rows.clone() for name, rows in cohort.private.items()}
        kept, routes = np.zeros(num_users, dtype=bool), np.full((num_users, 1), -1, dtype=np.int64)
        weight, users = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        group: dict[str, Tensor] = {}
        loss_sum, num_targets = 0.0, 0
        for cluster in range(self._clusters):
            rows = np.flatnonzero(chosen == cluster)
            if not len(rows):
                continue
            public, experts = copy_of(network, start.group, cluster)
            begin = Start(start.round_number, public, experts, loads=None)
            trained = self._trainer(
                network, begin, part_of(cohort, rows), data=data, training=training
            )
            if trained.weight > 0.0:
                copy = {**trained.public, **trained.group}
                group |= {cluster_name(cluster, name): value for name, value in copy.items()}
            for name, values in trained.private.items():
                private[name][torch.from_numpy(rows)] = values
            kept[rows], routes[rows[trained.kept], 0] = trained.kept, cluster
            weight[0, cluster], users[0, cluster] = trained.weight, trained.kept.sum()
            loss_sum += trained.loss_sum
            num_targets += trained.num_targets
        return Trained(
            public={},
            group=group,
            weight=float(weight.sum()),
            expert_weight=weight,
            expert_users=users,
            loss_sum=loss_sum,
            num_targets=num_targets,
            private=private,
            routes=routes,
            kept=kept,
        )


def score_clusters(
    score: Scorer,
    network: MRFFNetwork,
    group: Mapping[str, Tensor],
    cohort: Cohort,
    *,
    data: DataSettings,
    part: Part,
) -> Scores:
    """Scores every user with the copy that fits his training data best; routes are (U, 1)."""
    clusters = 1 + max(expert_of(name)[1] for name in group)
    chosen = best_copies(network, group, cohort, data, clusters)
    num_users = len(chosen)
    logits, labels = (np.zeros((num_users, data.holdout)) for _ in range(2))
    for cluster in range(clusters):
        rows = np.flatnonzero(chosen == cluster)
        if not len(rows):
            continue
        load_shared(network, *copy_of(network, group, cluster))
        scores = score(network, part_of(cohort, rows), data=data, part=part)
        logits[rows], labels[rows] = scores.logits, scores.labels
    return Scores(logits, labels, chosen[:, None])


@torch.no_grad()
def best_copies(
    network: MRFFNetwork,
    group: Mapping[str, Tensor],
    cohort: Cohort,
    data: DataSettings,
    clusters: int,
) -> np.ndarray:
    """(U,) the copy with each user's lowest mean loss on his training records, without dropout."""
    device = next(network.parameters()).device
    own = tensors_of(network, "private")
    losses = np.zeros((clusters, len(cohort.users)))
    chunks = chunks_of(training_sizes(cohort.dataset, cohort.users, data), LIMITS)
    copies = [copy_of(network, group, cluster) for cluster in range(clusters)]

    def measure(rows: np.ndarray) -> np.ndarray:
        batch = training_batch(cohort.dataset, cohort.users[rows], data)
        batch = batch.map(lambda field: field.to(device))
        private = {n: cohort.private[n][torch.from_numpy(rows)].to(device) for n in own}
        known = {"shared_look_ups": True, "rates": network.rates_of(batch)}
        measured = []
        for public, experts in copies:
            load_shared(network, public, experts)
            output = functional_call(network, private, (batch,), known)
            measured.append(user_losses(output, batch, balance_weight=0.0, loads=None)[0])
        return torch.stack(measured).double().cpu().numpy()

    for rows, measured in compute(chunks, measure):
        losses[:, rows] = measured
    return np.nan_to_num(losses, nan=np.inf).argmin(axis=0)


def part_of(cohort: Cohort, rows: np.ndarray) -> Cohort:
    """The cohort's users ``rows`` with what is theirs."""
    at = torch.from_numpy(rows)
    private = {name: values[at] for name, values in cohort.private.items()}
    return Cohort(cohort.dataset, cohort.users[rows], private)


def copy_of(
    network: MRFFNetwork, group: Mapping[str, Tensor], cluster: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Public and group arrays of one copy, as `load_shared` takes them."""
    arrays, public = cluster_part(group, cluster), tensors_of(network, "public").keys()
    return (
        {name: value for name, value in arrays.items() if name in public},
        {name: value for name, value in arrays.items() if name not in public},
    )

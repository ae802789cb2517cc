"""Whole users' updates, clipped and summed: the client's part of ``central-user`` and ``laplace``.

Each user trains on his own as ever. What differs is that his update becomes one vector of bounded
norm (`mrff.privacy.bound`) before it meets those of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from client_app.cohort_chunks import ChunkLimits, chunks_of, compute, training_sizes
from client_app.cohort_training import CACHE_POSITIONS, DEVICE_POSITIONS
from client_app.own_copies import Changes, changes_of_each
from client_app.privacy_upload import PrivateRound, Upload, trained_names
from client_app.training import Tensors, dropout_keys, training_batch
from mrff.privacy.bound import Bound
from mrff_model.building import load_shared, tensors_of
from mrff_model.network import MRFFNetwork


def train_whole_users(network: MRFFNetwork, task: PrivateRound) -> Upload:
    """Trains every user of the cohort; the upload is the sum of their clipped vectors."""
    load_shared(network, task.start.public, task.start.group)
    parameters: Tensors = dict(network.named_parameters())
    shared = {name: parameters[name] for name in trained_names(network, task.privacy)}
    weights = {name: task.privacy.clipping_weight(name) for name in shared}
    total = ClippedSum(shared, task.bound, weights)
    cohort = task.cohort
    private = {name: rows.clone() for name, rows in cohort.private.items()}
    routes = np.full((len(cohort.users), len(network.layers)), -1, dtype=np.int64)
    kept = np.zeros(len(cohort.users), dtype=bool)

    sizes = training_sizes(cohort.dataset, cohort.users, task.data)
    chunks = chunks_of(sizes, _limits(network, shared, task))
    for rows, changes in compute(chunks, lambda rows: _changes(network, shared, task, rows)):
        finite = changes.finite.cpu().numpy()
        total.add(changes.update, changes.routes.cpu().numpy(), finite)
        at = torch.from_numpy(rows)
        for name, values in changes.private.items():
            private[name][at[finite]] = values[changes.finite].to(private[name])
        routes[rows[finite]] = changes.routes.cpu().numpy()[finite]
        kept[rows] = finite
    return Upload(
        shared={n: v.view_as(shared[n]).cpu() for n, v in total.update.items()},
        statistics=total.statistics,
        private=private,
        routes=routes,
        kept=kept,
    )


class ClippedSum:
    """Adds users' vectors up, each clipped to the bound.

    Args:
        shapes: what is trained, by name.
        bound: of one user's vector.
        weights: what each array of the vector is multiplied with.
    """

    def __init__(self, shapes: Tensors, bound: Bound, weights: Mapping[str, float]) -> None:
        self.bound, self.weights = bound, weights
        self.update = {n: v.new_zeros(v.numel(), dtype=torch.float64) for n, v in shapes.items()}
        self.statistics = np.zeros(bound.num_statistics)

    def add(self, changes: Tensors, routes: np.ndarray, finite: np.ndarray) -> None:
        """Adds B users: ``changes`` (B, n) by name, ``routes`` (B, layers), ``finite`` (B,).

        A user whose update is not finite adds nothing at all.
        """
        norms = vector_norms(changes, self.bound.order, self.weights)
        factors = clip_factors(norms, self.bound.for_update, torch.from_numpy(finite))
        usable = factors > 0.0
        for name, change in changes.items():
            scaled = factors[usable].to(change) * self.weights[name]
            self.update[name] += scaled @ change[usable]
        clipped = (norms > self.bound.for_update).cpu().numpy()
        kept = usable.cpu().numpy()
        self.statistics += self.bound.statistics(routes[kept], clipped[kept]).sum(axis=0)


def vector_norms(parts: Tensors, order: int, weights: Mapping[str, float]) -> Tensor:
    """(B,) float64 norms of vectors that come in weighted parts (B, ...); 1 where none is given."""
    norms = [
        torch.linalg.vector_norm(part.reshape(len(part), -1), order, dim=1, dtype=torch.float64)
        * weights.get(name, 1.0)
        for name, part in parts.items()
    ]
    return torch.linalg.vector_norm(torch.stack(norms, dim=1), order, dim=1)


def clip_factors(norms: Tensor, bound: float, finite: Tensor) -> Tensor:
    """(B,) what each vector is multiplied with; 0 for one that is not finite.

    The factor is rounded down by as much as float32 may round up afterwards.
    """
    usable = torch.isfinite(norms) & finite.to(norms.device)
    factors = (bound * (1.0 - 1e-6) / norms.clamp(min=1e-30)).clamp(max=1.0)
    return torch.where(usable, factors, torch.zeros_like(factors))


def _changes(
    network: MRFFNetwork, shared: Tensors, task: PrivateRound, rows: np.ndarray
) -> Changes:
    """The separate changes of the cohort's users ``rows``."""
    cohort, training, privacy = task.cohort, task.training, task.privacy
    if privacy.own_parameters == "frozen":
        training = replace(
            training,
            private_learning_rate=0.0,
            private_weight_decay=0.0,
            user_factors_learning_rate=0.0,
        )
    some = next(iter(shared.values()))
    users, at = cohort.users[rows], torch.from_numpy(rows)
    batch = training_batch(cohort.dataset, users, task.data)
    keys = [
        dropout_keys(training.seed, task.start.round_number, cohort.dataset.user_keys[users], step)
        for step in range(training.local_steps)
    ]
    return changes_of_each(
        network,
        shared,
        {name: values[at].to(some) for name, values in cohort.private.items()},
        batch.map(lambda field: field.to(some.device)),
        dropout_keys=[key.to(some.device) for key in keys],
        loads=None if task.start.loads is None else task.start.loads.to(some),
        training=training,
    )


def _limits(network: MRFFNetwork, shared: Tensors, task: PrivateRound) -> ChunkLimits:
    """Every user has his own copy of what is trained."""
    own = sum(value.numel() for value in tensors_of(network, "private").values())
    numbers = own + sum(value.numel() for value in shared.values())
    on_cpu = next(network.parameters()).device.type == "cpu"
    return ChunkLimits(
        positions=CACHE_POSITIONS if on_cpu else DEVICE_POSITIONS,
        memory=task.training.cohort_memory_mb * 2**20,
        memory_per_position=4 * network.floats_per_position(),
        memory_per_user=4 * 5 * numbers,
    )

"""Learner ``cohort``: a whole cohort as a few batched computations; the default.

It gives what `client_app.learners.serial` gives, up to float addition: users share a computation,
never a parameter. Users of similar length form chunks of bounded memory.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from client_app.devices import chunk_memory, moved, multiplying
from client_app.learners.base import (
    Work,
    as_batch,
    local_settings,
    loss_weights,
    trained_parameters,
    training_batch,
    with_drawn_items,
    work_on,
)
from client_app.learners.chunks import ChunkLimits, chunks_of, compute_ahead, training_sizes
from client_app.learners.one_step import one_sgd_step
from client_app.learners.outputs import Extras, outputs
from client_app.learners.own_copies import changes_of_each, summed
from client_app.learners.ranking import Ranking, held_out_places, ranks_of
from client_app.learners.remembered import RememberedRates
from client_app.learners.side_by_side import chunks_at_once, compute_at_once
from mrff.algorithms.learning import Cohort, SharedModel, Trained
from mrff.config import RunConfig
from mrff.data.windows import evaluation_records
from mrff.linear import Mixture
from mrff.metrics.metric import Ranks, Scored
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import Chunk, Outcome, Tensors
from mrff.wire.requests import Part
from mrff_model.batch import Batch
from mrff_model.building import (
    has_shared_items,
    load_shared,
    rows_suffice,
    tensors_of,
)
from mrff_model.losses import user_losses
from mrff_model.network import Beforehand, MRFFNetwork

# Smaller chunks pay for more calls, larger ones leave the cache (benchmarks/chunk_speed.py).
CACHE_POSITIONS = 4096
DEVICE_POSITIONS = 1 << 20  # a GPU wants large chunks; there memory is the limit
# Without gradients a chunk of so many positions needs some tens of MB, whatever the setting.
READING = ChunkLimits(positions=8192, memory=2**30, memory_per_position=0, memory_per_user=1)
MOST_COPIES_BYTES = 128 * 2**20  # of users' own copies of the network at once
MOST_SCORES_BYTES = 512 * 2**20  # of whole catalogues: few users at once make a slow product


class CohortLearner:
    """See `Learner`; it computes on the network's device."""

    def __init__(self, network: MRFFNetwork, config: RunConfig) -> None:
        self.network, self.config = network, config

    def train(self, model: SharedModel, cohort: Cohort, mechanism: ClientHalf) -> Trained:
        """See `Learner.train`."""
        load_shared(self.network, model.public, model.group)
        shared = trained_parameters(self.network, mechanism)
        total, config = mechanism.begin(shared), local_settings(self.config, mechanism)
        done = Trained.nothing_yet(cohort, len(self.network.layers))
        keep_apart = mechanism.needs != "sum"
        rates = RememberedRates(self.network, self.config, "train")

        def prepare(rows: np.ndarray) -> Work:
            return work_on(model, cohort.part(rows), config, next(self.network.parameters()))

        def work(network: MRFFNetwork, rows: np.ndarray, chunk: Work) -> tuple[Outcome, Work]:
            chunk = replace(chunk, rates=rates.of(cohort.part(rows), chunk.batch))
            return self._local_training(network, shared, chunk, keep_apart), chunk

        sizes = training_sizes(cohort.dataset, cohort.users, self.config.data)
        waiting = chunks_of(sizes, self.chunk_limits(shared, keep_apart))
        while waiting:
            again: list[np.ndarray] = []
            for rows, (outcome, chunk) in compute_at_once(waiting, self.network, prepare, work):
                if outcome.update is None and outcome.changes is None:
                    again += _without_spoilers(rows, outcome.finite.cpu().numpy())
                    continue
                done.keep(rows, outcome)
                total.accumulate(
                    Chunk(outcome, chunk.user_weights, chunk.targets, cohort.routes[rows])
                )
            waiting = again
        return replace(done, sums=total.sums(self.network))

    def score(self, model: SharedModel, cohort: Cohort, part: Part) -> Scored:
        """See `Learner.score`."""
        load_shared(self.network, model.public, model.group)
        return self.score_as_loaded(cohort, part, model.mixture)

    @torch.no_grad()
    def score_as_loaded(self, cohort: Cohort, part: Part, mixture: Mixture | None = None) -> Scored:
        """The same by the shared model that the network holds."""
        network, data = self.network, self.config.data
        device = next(network.parameters()).device
        logits = np.zeros((len(cohort), data.holdout))
        ranking = Ranking.of(self.config, part, mixture)
        ranks = Ranks.nothing_yet(len(cohort), data.holdout, ranking.mixes)
        labels = np.zeros((len(cohort), data.holdout), dtype=np.float32)
        routes = np.zeros((len(cohort), len(network.layers)), dtype=np.int64)
        rates = RememberedRates(network, self.config, part)

        def prepare(rows: np.ndarray) -> tuple[Batch, Tensor]:
            users = cohort.users[rows]
            records = evaluation_records(
                cohort.dataset, users,
                length=data.window_length, holdout=data.holdout, part=part,
            )  # fmt: skip
            batch = as_batch(records, cohort.dataset, users, self.config)
            places = held_out_places(batch, data.holdout)
            return batch.map(lambda field: moved(field, device)), places

        def score_rows(rows: np.ndarray, prepared: tuple[Batch, Tensor]) -> None:
            chosen, (batch, places) = cohort.part(rows), prepared
            own = {name: moved(values, device) for name, values in chosen.private.items()}
            evidence = self._evidence(chosen)
            known = Beforehand(rates.of(chosen, batch), evidence)
            rank_at = places.to(device) if self._ranks else None
            output = outputs(network, own, batch, Extras(rank_at=rank_at, known=known))
            logits[rows] = output.logits[batch.mask].view(len(rows), -1).double().cpu().numpy()
            labels[rows] = batch.labels[batch.mask].view(len(rows), -1).cpu().numpy()
            routes[rows] = output.routes.cpu().numpy()
            if self._ranks:
                found = ranks_of(output.scores, cohort.dataset, chosen.users, part, ranking)
                ranks.keep(rows, found)

        lengths = np.diff(cohort.dataset.offsets)[cohort.users]
        lengths = np.minimum(lengths - (data.holdout if part == "valid" else 0), data.window_length)
        sizes = np.stack([np.ones_like(lengths), lengths], axis=1)
        limits = self._reading_limits()
        if self._ranks:  # a row of the catalogue for every held-out item, and what compares it
            bytes_per_item = 64 if mixture is not None else 20 if ranking.lists else 8
            row = bytes_per_item * data.holdout * cohort.dataset.schema.num_items
            most = MOST_SCORES_BYTES if mixture is None else MOST_COPIES_BYTES
            limits = replace(
                limits,
                memory=min(limits.memory, most),
                memory_per_user=limits.memory_per_user + row,
            )
        alike = self._ranks and has_shared_items(network)
        with network.item_features.fixed() if alike else nullcontext():
            for _ in compute_ahead(chunks_of(sizes, limits), prepare, score_rows, device):
                pass
        return Scored(logits, labels, routes, cohort.routes, ranks if self._ranks else None)

    @torch.no_grad()
    def losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """See `Learner.losses`."""
        network, data, weights = self.network, self.config.data, loss_weights(self.config)
        load_shared(network, model.public, model.group)
        some = next(network.parameters())
        losses, rates = np.zeros(len(cohort)), RememberedRates(network, self.config, "train")

        def prepare(rows: np.ndarray) -> Batch:
            chosen = cohort.part(rows)
            batch = training_batch(cohort.dataset, chosen.users, self.config)
            batch = with_drawn_items(batch, chosen, self.config, model.round_number)
            return batch.map(lambda field: moved(field, some.device))

        def measure(rows: np.ndarray, batch: Batch) -> None:
            chosen = cohort.part(rows)
            own = {name: moved(values, some.device) for name, values in chosen.private.items()}
            known = Beforehand(rates.of(chosen, batch))
            output = outputs(network, own, batch, Extras(known=known))
            measured = user_losses(output, batch, weights)[0]
            losses[rows] = measured.double().cpu().numpy()

        sizes = training_sizes(cohort.dataset, cohort.users, data)
        chunks = chunks_of(sizes, self._reading_limits())
        for _ in compute_ahead(chunks, prepare, measure, some.device):
            pass
        return losses

    def chunk_limits(self, shared: Tensors, keep_apart: bool = False) -> ChunkLimits:
        """The limits that keep a chunk within the memory there is."""
        network, training = self.network, self.config.training
        device = next(network.parameters()).device
        own = sum(value.numel() for value in tensors_of(network, "private").values())
        numbers = sum(value.numel() for value in shared.values())
        if keep_apart:
            per_user = 5 * (numbers + own)
        elif self._takes_one_sgd_step():  # nobody needs a copy of the shared parameters
            # The chosen experts' weights and their gradients are gathered per user.
            experts = sum(value.numel() for value in tensors_of(network, "group").values())
            per_user = 4 * own + 3 * experts // network.num_experts
        else:
            per_user = (6 if training.local_optimizer == "sgd" else 8) * (numbers + own)
        return ChunkLimits(
            positions=CACHE_POSITIONS if device.type == "cpu" else DEVICE_POSITIONS,
            memory=chunk_memory(device) // chunks_at_once(device),
            memory_per_position=4 * (network.floats_per_position() + self._compared()),
            memory_per_user=4 * per_user,
        )

    def _evidence(self, cohort: Cohort) -> Batch | None:
        """The records that choose users' groups, where labels do."""
        if not self.network.by_evidence:
            return None
        device = next(self.network.parameters()).device
        batch = training_batch(cohort.dataset, cohort.users, self.config)
        return batch.map(lambda field: moved(field, device))

    @property
    def _ranks(self) -> bool:
        """Whether held-out items are ranked."""
        return self.network.next_head is not None

    def _compared(self) -> int:
        """Floats per position for the scores of the items that a target is compared with."""
        if self.network.next_head is None:
            return 0
        items, training = self.network.rows - 1, self.config.training
        return 4 * (items if items <= training.full_softmax_items else training.drawn_items)

    def _local_training(
        self, network: MRFFNetwork, shared: Tensors, work: Work, keep_apart: bool
    ) -> Outcome:
        device, precision = work.weights.device, self.config.training.precision
        with multiplying(device, precision):
            if self._takes_one_sgd_step() and not keep_apart:
                return one_sgd_step(network, shared, work)
            outcome = changes_of_each(network, shared, work)
        return outcome if keep_apart else summed(outcome, shared, work.weights)

    def _takes_one_sgd_step(self) -> bool:
        training = self.config.training
        one_step = training.local_steps == 1 and training.local_optimizer == "sgd"
        # Of tables that users have each of their own, vmap keeps no padding row free of gradients.
        return one_step and has_shared_items(self.network)

    def _reading_limits(self) -> ChunkLimits:
        if rows_suffice(self.network):
            return READING
        # A copy of all of it, and something to compute with, per user.
        own = tensors_of(self.network, "private").values()
        per_user = 8 * sum(value.numel() for value in own)
        return replace(READING, memory=MOST_COPIES_BYTES, memory_per_user=per_user)


def _without_spoilers(rows: np.ndarray, finite: np.ndarray) -> list[np.ndarray]:
    """What to train once more: the others, without those who spoil the sum."""
    if not finite.all():
        return [rows[finite]] if finite.any() else []
    return np.array_split(rows, 2) if len(rows) > 1 else []

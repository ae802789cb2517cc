"""Trains and scores users of matrix factorisation: what FedMF and PFedRec do on a device.

A user's copies of items are forgotten after their chunk. PFedRec's users are scored by fine-tuned
items, which are computed again, from the shared table and the user's own score function: they are
what the next round would train, by the same samples. The authors score by the tables of the round
just trained, which are the same numbers one round later where everybody takes part in every round.
Kept whole, the tables of ml-1m's users would be 2.9 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from client_app.devices import chunk_memory
from client_app.learners.base import trained_parameters, user_weights
from client_app.learners.chunks import ChunkLimits, chunks_of, compute
from client_app.learners.factor_steps import Local, one_pass
from client_app.learners.negatives import Met, samples_of
from client_app.learners.ranking import Ranking, ranks_of
from mrff.algorithms.learning import Cohort, SharedModel, Trained
from mrff.config import RunConfig
from mrff.data.dataset import rows_between
from mrff.data.windows import train_sizes
from mrff.metrics.metric import Ranks, Scored
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import Chunk, Outcome, Tensors
from mrff.sums.outcome import visited_experts
from mrff.sums.sampling import user_keys
from mrff.wire.requests import Part
from mrff_model.building import load_shared
from mrff_model.factors import FactorNetwork

CHUNK_SAMPLES = 1 << 18  # a chunk's copies should not leave the cache by much
TABLE, VECTOR, BIAS = "item_table.weight", "user_vector", "user_bias"


class FactorLearner:
    """See `Learner`; it computes on the network's device.

    Args:
        met: whose items are no negatives. Anything but ``"training"`` is contaminated, and there
            to reproduce published figures.
    """

    def __init__(self, network: FactorNetwork, config: RunConfig, met: Met = "training") -> None:
        self.network, self.config, self.met = network, config, met

    @torch.no_grad()
    def train(self, model: SharedModel, cohort: Cohort, mechanism: ClientHalf) -> Trained:
        """See `Learner.train`."""
        load_shared(self.network, model.public, model.group)
        total = mechanism.begin(trained_parameters(self.network, mechanism))
        done = Trained.nothing_yet(cohort, self.config.routes_shape[0])

        def work(rows: np.ndarray) -> tuple[Outcome, Chunk]:
            chosen = cohort.part(rows)
            local = self._trained(chosen, model.round_number)
            targets = self._targets(chosen)
            weights = user_weights(targets, self.config.training.user_weighting)
            outcome = self._outcome(local, weights, targets)
            return outcome, Chunk(outcome, weights, targets, chosen.routes)

        for rows, (outcome, chunk) in compute(self._chunks(cohort), work):
            done.keep(rows, outcome)
            total.accumulate(chunk)
        return replace(done, sums=total.sums(self.network))

    @torch.no_grad()
    def score(self, model: SharedModel, cohort: Cohort, part: Part) -> Scored:
        """See `Learner.score`."""
        dataset, data = cohort.dataset, self.config.data
        ends = dataset.offsets[cohort.users + 1] - (data.holdout if part == "valid" else 0)
        held_out = rows_between(ends - data.holdout, ends).reshape(-1, data.holdout)
        labels = dataset.labels[held_out].astype(np.float32)
        ranking = Ranking.of(self.config, part, model.mixture)
        ranks = Ranks.nothing_yet(len(cohort), data.holdout, ranking.mixes)
        for rows, scores in self.scores(model, cohort):
            every = scores.unsqueeze(1).expand(-1, data.holdout, -1)
            ranks.keep(rows, ranks_of(every, dataset, cohort.users[rows], part, ranking))
        routes = np.zeros((len(cohort), self.config.routes_shape[0]), dtype=np.int64)
        return Scored(np.zeros(labels.shape), labels, routes, cohort.routes, ranks)

    @torch.no_grad()
    def losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """See `Learner.losses`; on the samples of the round, while they are learned."""
        load_shared(self.network, model.public, model.group)
        losses = np.zeros(len(cohort))
        for rows, local in compute(
            self._chunks(cohort), lambda rows: self._trained(cohort.part(rows), model.round_number)
        ):
            losses[rows] = local.loss.double().cpu().numpy()
        return losses

    @torch.no_grad()
    def scores(self, model: SharedModel, cohort: Cohort) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Users chunk by chunk: their rows (B,), and scores (B, items) of items 1, 2, ..."""
        load_shared(self.network, model.public, model.group)
        next_round = model.round_number + 1
        yield from compute(
            self._chunks(cohort), lambda rows: self._scores(cohort.part(rows), next_round)
        )

    def _scores(self, cohort: Cohort, next_round: int) -> Tensor:
        if not self.network.personal:
            shared: Tensor = self.network(self._own(cohort)[VECTOR])
            return shared
        local = self._trained(cohort, next_round)
        scores: Tensor = self.network(local.vector)
        scores[local.owners, local.codes - 1] = (local.items * local.vector[local.owners]).sum(1)
        return scores

    def _trained(self, cohort: Cohort, round_number: int) -> Local:
        """What users make of the shared table and what is their own."""
        training, own = self.config.training, self._own(cohort)
        samples = samples_of(cohort.dataset, cohort.users, self.config, round_number, self.met)
        table = self.network.item_table.weight
        local = Local.begun(table, samples, own[VECTOR], own.get(BIAS))
        for number in range(training.local_steps):
            purpose = f"order of pass {number}"
            keys = user_keys(training.seed, round_number, cohort.keys, purpose)
            ordered, apart = samples.shuffled(keys), self.network.personal
            one_pass(local, ordered, training, apart=apart, first=number == 0)
        return local

    def _outcome(self, local: Local, weights: np.ndarray, targets: np.ndarray) -> Outcome:
        """The sum over the users who are finite."""
        table, finite = self.network.item_table.weight, local.finite()
        counted = torch.from_numpy(weights).to(table) * finite
        kept = finite[local.owners]
        codes, owners = local.codes[kept], local.owners[kept]
        changes = (local.items[kept] - table[codes]) * counted[owners].unsqueeze(1)
        update = torch.zeros_like(table).index_add_(0, codes, changes)
        own: Tensors = {VECTOR: local.vector}
        if local.bias is not None:
            own[BIAS] = local.bias
        routes = torch.zeros((len(finite), self.config.routes_shape[0]), dtype=torch.int64)
        visited = visited_experts(routes, self.config.routes_shape[1])
        loss = local.loss * torch.from_numpy(targets).to(table)
        return Outcome({TABLE: update}, None, own, routes, visited, loss, finite)

    def _own(self, cohort: Cohort) -> Tensors:
        like = self.network.item_table.weight
        return {name: values.to(like) for name, values in cohort.private.items()}

    def _targets(self, cohort: Cohort) -> np.ndarray:
        """(B,) interactions of the training part."""
        return train_sizes(cohort.dataset, cohort.users, holdout=self.config.data.holdout)

    def _chunks(self, cohort: Cohort) -> list[np.ndarray]:
        """Users with about as many samples together."""
        table = self.network.item_table.weight
        samples = self._targets(cohort) * (1 + self.config.training.negatives)
        limits = ChunkLimits(
            positions=CHUNK_SAMPLES,
            memory=chunk_memory(table.device),
            memory_per_position=16 * table.shape[1] + 64,
            memory_per_user=16 * len(table),
        )
        return chunks_of(np.stack([np.ones_like(samples), samples], axis=1), limits)

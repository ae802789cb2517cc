"""Learner ``serial``: a plain loop over users; it reads like the formulas and is the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

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
from client_app.learners.ranking import Ranking, held_out_places, ranks_of
from client_app.learners.rates import private_rate
from mrff.algorithms.learning import Cohort, SharedModel, Trained
from mrff.config import RunConfig
from mrff.data.windows import evaluation_records
from mrff.metrics.metric import Ranks, Scored
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import Chunk, Outcome, Tensors
from mrff.sums.outcome import visited_experts
from mrff.wire.requests import Part
from mrff_model.building import load_shared, tensors_of
from mrff_model.losses import user_losses
from mrff_model.network import Beforehand, MRFFNetwork


class SerialLearner:
    """See `Learner`."""

    def __init__(self, network: MRFFNetwork, config: RunConfig) -> None:
        self.network, self.config = network, config

    def train(self, model: SharedModel, cohort: Cohort, mechanism: ClientHalf) -> Trained:
        """See `Learner.train`."""
        load_shared(self.network, model.public, model.group)
        shared = trained_parameters(self.network, mechanism)
        begin = {name: value.detach().clone() for name, value in shared.items()}
        total, config = mechanism.begin(shared), local_settings(self.config, mechanism)
        done = Trained.nothing_yet(cohort, len(self.network.layers))
        for row in range(len(cohort)):
            user = cohort.part(np.array([row]))
            self._place(user, begin)
            work = work_on(model, user, config, next(self.network.parameters()))
            outcome = self._train_user(work, shared, begin)
            if mechanism.needs != "sum":
                changes = {n: (v.detach() - begin[n]).flatten()[None] for n, v in shared.items()}
                outcome = outcome._replace(update=None, changes=changes)
            done.keep(np.array([row]), outcome)
            total.accumulate(Chunk(outcome, work.user_weights, work.targets, user.routes))
        return replace(done, sums=total.sums(self.network))

    @torch.no_grad()
    def score(self, model: SharedModel, cohort: Cohort, part: Part) -> Scored:
        """See `Learner.score`."""
        data = self.config.data
        load_shared(self.network, model.public, model.group)
        logits, labels, routes = [], [], []
        ranked = self.network.next_head is not None
        ranking = Ranking.of(self.config, part, model.mixture)
        ranks = Ranks.nothing_yet(len(cohort), data.holdout, ranking.mixes)
        for row in range(len(cohort)):
            user = cohort.part(np.array([row]))
            self._place(user, {})
            records = evaluation_records(
                cohort.dataset, user.users,
                length=data.window_length, holdout=data.holdout, part=part,
            )  # fmt: skip
            batch = as_batch(records, cohort.dataset, user.users, self.config)
            places = held_out_places(batch, data.holdout) if ranked else None
            evidence = None
            if self.network.by_evidence:
                evidence = training_batch(cohort.dataset, user.users, self.config)
            output = self.network(batch, rank_at=places, known=Beforehand(evidence=evidence))
            logits.append(output.logits[batch.mask].double().numpy())
            labels.append(batch.labels[batch.mask].numpy())
            routes.append(output.routes[0].numpy())
            if ranked:
                own = ranks_of(output.scores, cohort.dataset, user.users, part, ranking)
                ranks.keep(np.array([row]), own)
        found = ranks if ranked else None
        return Scored(np.stack(logits), np.stack(labels), np.stack(routes), cohort.routes, found)

    @torch.no_grad()
    def losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """See `Learner.losses`."""
        load_shared(self.network, model.public, model.group)
        losses = []
        for row in range(len(cohort)):
            user = cohort.part(np.array([row]))
            self._place(user, {})
            batch = training_batch(cohort.dataset, user.users, self.config)
            batch = with_drawn_items(batch, user, self.config, model.round_number)
            loss, _ = user_losses(self.network(batch), batch, loss_weights(self.config))
            losses.append(loss.item())
        return np.array(losses)

    @torch.no_grad()
    def _place(self, user: Cohort, begin: Tensors) -> None:
        """Puts the start and one user's own parameters into the network."""
        parameters = dict(self.network.named_parameters())
        for name, value in begin.items():
            parameters[name].copy_(value)
        for name, value in tensors_of(self.network, "private").items():
            value.copy_(user.private[name])

    def _train_user(self, work: Work, shared: Tensors, begin: Tensors) -> Outcome:
        """Takes one user's local steps from ``begin``, each on all of their records."""
        network, training, batch = self.network, work.training, work.batch
        optimizer = self._optimizer(shared, work)
        visited, routes, sums, finite = [], [], [], True
        for key in work.dropout_keys:
            output = network(batch, key)
            loss, bce = user_losses(output, batch, work.loss, work.loads)
            routes.append(output.routes)
            visited.append(visited_experts(output.routes, network.num_experts))
            sums.append(bce)
            finite = bool(torch.isfinite(loss).all())
            if not finite:
                break
            optimizer.zero_grad()
            loss.sum().backward()
            _add_proximal(network, begin, training.proximal_weight)
            optimizer.step()
        own = {name: rows.clone() for name, rows in tensors_of(network, "private").items()}
        weight = float(work.weights[0])
        update = {n: weight * (v.detach() - begin[n]).double() for n, v in shared.items()}
        finite = finite and all(bool(v.isfinite().all()) for v in (*update.values(), *own.values()))
        return Outcome(
            update=update,
            changes=None,
            private=own,
            routes=routes[0],
            visited=torch.stack(visited).any(0),
            bce=sums[0],
            finite=torch.tensor([finite]),
        )

    def _optimizer(self, shared: Tensors, work: Work) -> torch.optim.Optimizer:
        """A new one per user and round: a device keeps no optimiser state between rounds."""
        training = work.training
        parameters = dict(self.network.named_parameters())
        groups = [{"params": list(shared.values()), "lr": training.local_learning_rate}]
        groups += [
            {
                "params": [parameters[name]],
                "lr": float(private_rate(name, training, work.batch.mask.sum())),
                "weight_decay": training.private_weight_decay,
            }
            for name in work.private
        ]
        kind = torch.optim.SGD if training.local_optimizer == "sgd" else torch.optim.Adam
        return kind([group for group in groups if group["params"]])


def _add_proximal(network: nn.Module, begin: Tensors, weight: float) -> None:
    """The gradient of mu / 2 |w - w_0|^2 (FedProx: Li et al., MLSys 2020, eq. 2)."""
    if not weight:
        return
    for name, parameter in network.named_parameters():
        if name in begin and parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - begin[name], alpha=weight)

"""Scores a node's users on held-out interactions; what leaves is sums, no label and no score."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol

import numpy as np
import torch

from client_app.training import Cohort, as_batch
from mrff.config import DataSettings
from mrff.data.windows import evaluation_records
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork


@dataclass(frozen=True)
class Scores:
    """Held-out predictions of U users, k targets each, in time order."""

    logits: np.ndarray  # (U, k) float64
    labels: np.ndarray  # (U, k) 0 or 1
    routes: np.ndarray  # (U, layers) int64


@dataclass(frozen=True)
class ScoreSums:
    """What a node tells of its users' quality."""

    num_users: int
    num_targets: int
    log_loss_sum: float
    positives: np.ndarray  # (bins,) int64, histogram of the scores of positive targets
    negatives: np.ndarray  # (bins,) int64
    gauc_sum: float  # sum of the users' own AUC, over those with both classes
    gauc_users: int


Part = Literal["valid", "test"]


class Scorer(Protocol):
    """Scores a cohort; the network holds the shared parameters already."""

    def __call__(
        self, network: MRFFNetwork, cohort: Cohort, *, data: DataSettings, part: Part
    ) -> Scores: ...


SCORERS: dict[str, str] = {
    "cohort": "client_app.cohort_evaluation:score_cohort",
    "serial": "client_app.evaluation:score_serially",
}


def scorer_named(trainer: str) -> Scorer:
    """The scorer that goes with a trainer, imported when it is asked for."""
    module, function = SCORERS[trainer].split(":")
    scorer: Scorer = getattr(import_module(module), function)
    return scorer


@torch.no_grad()
def score_serially(
    network: MRFFNetwork, cohort: Cohort, *, data: DataSettings, part: Part
) -> Scores:
    """One user after the other; see `Scorer`."""
    own = tensors_of(network, "private")
    logits, labels, routes = [], [], []
    for row in range(len(cohort.users)):
        users = cohort.users[row : row + 1]
        for name, value in own.items():
            value.copy_(cohort.private[name][row : row + 1])
        records = evaluation_records(
            cohort.dataset, users, length=data.window_length, holdout=data.holdout, part=part
        )
        batch = as_batch(records, cohort.dataset, users)
        output = network(batch)
        logits.append(output.logits[batch.mask].double().numpy())
        labels.append(batch.labels[batch.mask].numpy())
        routes.append(output.routes[0].numpy())
    return Scores(np.stack(logits), np.stack(labels), np.stack(routes))


def sum_scores(scores: Scores, bins: int) -> ScoreSums:
    """Log loss, histograms of predicted probabilities and per-user AUC of scores.

    Args:
        bins: of equal width on [0, 1].
    """
    logits, labels = scores.logits, scores.labels
    positive = labels > 0.5
    probabilities = 1.0 / (1.0 + np.exp(-np.clip(logits, -700, 700)))
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    both = positive.any(axis=1) & ~positive.all(axis=1)
    own_auc = [_auc(s, p) for s, p in zip(logits[both], positive[both], strict=True)]
    return ScoreSums(
        num_users=len(logits),
        num_targets=logits.size,
        log_loss_sum=float(np.logaddexp(0.0, np.where(positive, -logits, logits)).sum()),
        positives=np.bincount(places[positive], minlength=bins),
        negatives=np.bincount(places[~positive], minlength=bins),
        gauc_sum=float(np.sum(own_auc)),
        gauc_users=len(own_auc),
    )


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; ties count one half."""
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))

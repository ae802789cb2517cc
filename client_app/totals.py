"""A node's sums over its users in one message, and the records they become (DESIGN 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from torch import Tensor

from client_app.evaluation import ScoreSums
from client_app.training import Tensors, Trained
from mrff_model.packing import FORMAT, PACKED, pack


class TrainTotals:
    """Adds up cohorts of a training round, for ``layers`` layers of ``experts`` experts."""

    def __init__(self, layers: int, experts: int) -> None:
        self._public: Tensors = {}
        self._group: Tensors = {}
        self._weight, self._loss_sum = 0.0, 0.0
        self._expert_weight = np.zeros((layers, experts))
        self._expert_users = np.zeros((layers, experts), dtype=np.int64)
        self._users, self._targets, self._dropped, self._changed, self._compared = 0, 0, 0, 0, 0

    def add(self, trained: Trained, routes_before: np.ndarray) -> None:
        """Takes in a cohort; ``routes_before`` (U, layers), -1 where unknown."""
        kept = trained.kept
        self._dropped += int((~kept).sum())
        if not kept.any():
            return
        for sums, update in ((self._public, trained.public), (self._group, trained.group)):
            for name, value in update.items():
                sums[name] = sums[name] + value if name in sums else value
        self._weight += trained.weight
        self._loss_sum += trained.loss_sum
        self._expert_weight += trained.expert_weight
        self._expert_users += trained.expert_users
        self._users += int(kept.sum())
        self._targets += trained.num_targets
        changed, compared = route_changes(routes_before[kept], trained.routes[kept])
        self._changed, self._compared = self._changed + changed, self._compared + compared

    def reply(self, round_number: int, seconds: float) -> RecordDict:
        """The records to send; without arrays if nobody was trained."""
        metrics: dict[str, Any] = {
            "round": round_number,
            "num-users": self._users,
            "num-targets": self._targets,
            "weight": self._weight,
            "expert-weight": self._expert_weight.ravel().tolist(),
            "expert-users": self._expert_users.ravel().tolist(),
            "loss-sum": self._loss_sum,
            "changed-users": self._changed,
            "compared-users": self._compared,
            "dropped-users": self._dropped,
            "seconds": seconds,
        }
        reply = RecordDict({"metrics": MetricRecord(metrics)})
        if self._users:
            reply["public"] = packed_record(self._public)
            reply["group"] = packed_record(self._group)
        return reply


class EvaluationTotals:
    """Adds up cohorts of an evaluation."""

    def __init__(self, layers: int, experts: int, bins: int) -> None:
        self._sums: dict[str, float | int] = dict.fromkeys(_SCORE_SUMS, 0)
        self._sums["log-loss-sum"], self._sums["gauc-sum"] = 0.0, 0.0
        self._histograms = np.zeros((2, bins), dtype=np.int64)  # positives, negatives
        self._expert_users = np.zeros((layers, experts), dtype=np.int64)

    def add(self, sums: ScoreSums) -> None:
        """Takes in a cohort's scores."""
        for name, attribute in _SCORE_SUMS.items():
            if attribute:
                self._sums[name] += getattr(sums, attribute)
        self._histograms += np.stack([sums.positives, sums.negatives])

    def add_routes(self, before: np.ndarray, after: np.ndarray) -> None:
        """Takes in a cohort's experts (U, layers), and those of their last training."""
        for layer, routes in enumerate(after.T):
            self._expert_users[layer] += np.bincount(routes, minlength=self._expert_users.shape[1])
        changed, compared = route_changes(before, after)
        self._sums["changed-users"] += changed
        self._sums["compared-users"] += compared

    def reply(self, round_number: int, *, skipped_users: int, seconds: float) -> RecordDict:
        """The record to send."""
        metrics: dict[str, Any] = {
            "round": round_number,
            **self._sums,
            "positives": self._histograms[0].tolist(),
            "negatives": self._histograms[1].tolist(),
            "expert-users": self._expert_users.ravel().tolist(),
            "skipped-users": skipped_users,
            "seconds": seconds,
        }
        return RecordDict({"metrics": MetricRecord(metrics)})


# Metric names and the fields of ScoreSums they add up.
_SCORE_SUMS = {
    "num-users": "num_users",
    "num-targets": "num_targets",
    "log-loss-sum": "log_loss_sum",
    "gauc-sum": "gauc_sum",
    "gauc-users": "gauc_users",
    "changed-users": "",
    "compared-users": "",
}


def route_changes(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """How many users changed an expert in some layer, of how many whose routes were known."""
    known = (before >= 0).all(axis=1)
    return int((before[known] != after[known]).any(axis=1).sum()), int(known.sum())


def packed_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Tensors as they travel: all of them in one array (`mrff_model.packing`)."""
    block = pack({name: value.numpy() for name, value in tensors.items()})
    return ArrayRecord({PACKED: Array("uint8", (len(block),), FORMAT, block)})

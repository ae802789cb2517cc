"""What a round and an evaluation come to: sums over accepted replies, and the measures from them.

Undefined measures are ``None``: the AUC of one class, the churn of users nobody has seen before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from flwr.app import MetricRecord
from numpy.typing import NDArray

from mrff_model import metrics
from strategies.replies import EvaluateReply, TrainReply
from strategies.state import TrainingState


@dataclass(frozen=True)
class Rejection:
    """A reply that did not count."""

    node: int
    reason: str


@dataclass
class Traffic:
    """Who answered in a phase, and how many bytes went either way.

    Bytes are those of arrays and numbers in the messages, without Flower's envelopes.
    """

    sent: int = 0
    replies: int = 0  # accepted
    rejected: list[Rejection] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RoundReport:
    """One training round. ``loads`` are (layers, K) shares of users.

    ``privacy``, in a private mode: clipping_norm, clipped_share (noisy), signal_to_noise, epsilon
    spent so far by the server's ledger. Users are expected ones then.
    """

    round: int
    users: int
    targets: int
    dropped_users: int
    train_loss: float | None
    loads: list[list[float]]
    load_entropy: float | None
    churn: float | None
    traffic: Traffic
    privacy: dict[str, float | None] | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """One evaluation of the model after ``round``, on "valid" or "test" targets."""

    split: str
    round: int
    users: int
    targets: int
    skipped_users: int
    auc: float | None
    auc_error_bound: float | None
    log_loss: float | None
    gauc: float | None
    gauc_users: int
    calibration_error: float | None
    loads: list[list[float]]
    load_entropy: float | None
    churn: float | None
    traffic: Traffic


class Observer(Protocol):
    """What a run tells the outside; the strategy knows nothing of files."""

    def round_finished(self, report: RoundReport) -> None:
        """After a round has changed the model."""
        ...

    def evaluated(self, report: EvaluationReport, *, is_best: bool) -> None:
        """After a validation or the test."""
        ...

    def save(self, state: TrainingState) -> None:
        """Make ``state`` durable; nodes are told of it as soon as this returns."""
        ...


class Silent:
    """The observer that looks away."""

    def round_finished(self, report: RoundReport) -> None:
        """Nothing."""

    def evaluated(self, report: EvaluationReport, *, is_best: bool) -> None:
        """Nothing."""

    def save(self, state: TrainingState) -> None:
        """Nothing: such a run cannot be resumed."""


class TrainSums:
    """Running sums of what train replies report beside their arrays."""

    def __init__(self, num_layers: int, num_experts: int) -> None:
        self.users = self.targets = self.dropped = self.changed = self.compared = 0
        self.loss = 0.0
        self.expert_users = np.zeros((num_layers, num_experts), dtype=np.int64)

    def add(self, reply: TrainReply) -> None:
        """Adds one node's sums."""
        self.users += reply.num_users
        self.targets += reply.num_targets
        self.dropped += reply.dropped_users
        self.changed += reply.changed_users
        self.compared += reply.compared_users
        self.loss += reply.loss_sum
        self.expert_users += reply.expert_users

    def report(self, server_round: int, traffic: Traffic) -> RoundReport:
        """The round's measures."""
        return RoundReport(
            round=server_round,
            users=self.users,
            targets=self.targets,
            dropped_users=self.dropped,
            train_loss=_defined(metrics.mean_or_nan(self.loss, self.targets)),
            loads=metrics.load_shares(self.expert_users).tolist(),
            load_entropy=_defined(metrics.load_entropy(self.expert_users)),
            churn=_defined(metrics.churn(self.changed, self.compared)),
            traffic=traffic,
        )


class EvaluationSums:
    """Running sums of evaluate replies; histograms of ``bins`` score bins."""

    def __init__(self, num_layers: int, num_experts: int, bins: int) -> None:
        self.users = self.targets = self.skipped = self.changed = self.compared = 0
        self.gauc_users = 0
        self.log_loss = self.gauc = 0.0
        self.positives: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self.negatives: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self.expert_users = np.zeros((num_layers, num_experts), dtype=np.int64)

    def add(self, reply: EvaluateReply) -> None:
        """Adds one node's sums."""
        self.users += reply.num_users
        self.targets += reply.num_targets
        self.skipped += reply.skipped_users
        self.changed += reply.changed_users
        self.compared += reply.compared_users
        self.gauc += reply.gauc_sum
        self.gauc_users += reply.gauc_users
        self.log_loss += reply.log_loss_sum
        self.positives += reply.positives
        self.negatives += reply.negatives
        self.expert_users += reply.expert_users

    def report(self, split: str, server_round: int, traffic: Traffic) -> EvaluationReport:
        """The evaluation's measures."""
        histograms = self.positives, self.negatives
        return EvaluationReport(
            split=split,
            round=server_round,
            users=self.users,
            targets=self.targets,
            skipped_users=self.skipped,
            auc=_defined(metrics.histogram_auc(*histograms)),
            auc_error_bound=_defined(metrics.auc_error_bound(*histograms)),
            log_loss=_defined(metrics.mean_or_nan(self.log_loss, self.targets)),
            gauc=_defined(metrics.mean_or_nan(self.gauc, self.gauc_users)),
            gauc_users=self.gauc_users,
            calibration_error=_defined(metrics.calibration_error(*histograms)),
            loads=metrics.load_shares(self.expert_users).tolist(),
            load_entropy=_defined(metrics.load_entropy(self.expert_users)),
            churn=_defined(metrics.churn(self.changed, self.compared)),
            traffic=traffic,
        )


def metric_record(report: RoundReport | EvaluationReport) -> MetricRecord:
    """The defined measures, as Flower's `Result` holds them."""
    names = ("users", "targets", "train_loss", "auc", "log_loss", "gauc", "load_entropy", "churn")
    values = {name: getattr(report, name, None) for name in names}
    return MetricRecord({n.replace("_", "-"): v for n, v in values.items() if v is not None})


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value

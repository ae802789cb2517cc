"""What a round and an evaluation come to. Undefined measures are ``None``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flwr.app import MetricRecord

from mrff.linear import Mixture
from mrff.metrics import Evaluation
from mrff.metrics.routes import loads_of
from mrff.privacy.mechanisms.base import Released
from mrff.sums import CohortSums
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.requests import Part
from mrff.wire.traffic import Traffic
from strategies.state import TrainingState


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

    @classmethod
    def of(cls, server_round: int, released: Released, traffic: Traffic) -> RoundReport:
        """The report of what a mechanism released."""
        facts = {name: _defined(value) for name, value in released.facts.items()}
        loads = [] if released.loads is None else released.loads.tolist()
        return cls(
            round=server_round, loads=loads, traffic=traffic, privacy=released.privacy, **facts
        )


@dataclass(frozen=True)
class EvaluationReport:
    """One evaluation of the model after ``round``, on "valid" or "test" targets.

    ``measures`` are those of `mrff.metrics.METRICS`, by name; ``parts`` are HR and NDCG by what a
    test ranked by, where linear models are mixed with the network; ``drawn`` how many items a
    held-out one was ranked among, None: all that its user had not met.
    """

    split: Part
    round: int
    users: int
    targets: int
    skipped_users: int
    measures: dict[str, float | None]
    parts: Mapping[str, dict[str, float]] = field(default_factory=dict)
    drawn: int | None = None
    loads: list[list[float]] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    @classmethod
    def of(
        cls, split: Part, server_round: int, evaluation: Evaluation, collected: Collected
    ) -> EvaluationReport:
        """The report of nodes' sums.

        Raises:
            RoundFailedError: nobody is long enough for the split, or held out.
        """
        sums, traffic = collected
        if sums.number("skipped") and not sums.number("users"):
            raise RoundFailedError(
                f"none of the {sums.number('skipped'):,} users is long enough for data.holdout="
                f"{evaluation.grain.holdout} (choose a smaller one) or, with data.holdout=0, held "
                "out (choose a larger data.validation-users)"
            )
        return cls(
            split=split,
            round=server_round,
            users=sums.number("users"),
            targets=sums.number("targets"),
            skipped_users=sums.number("skipped"),
            measures=evaluation.measures(sums),
            drawn=evaluation.drawn,
            loads=loads_of(sums),
            traffic=traffic,
        )


@dataclass(frozen=True)
class GroupsChosen:
    """Whether groups stay (``kept``), and why: a metric of the validation with them and without.

    ``with_one`` is None where it is undefined with one expert for all.
    """

    round: int
    kept: bool
    metric: str
    with_groups: float
    with_one: float | None
    traffic: Traffic = field(default_factory=Traffic)


Collected = tuple[CohortSums, Traffic]


class Observer(Protocol):
    """What a run tells the outside; the strategy knows nothing of files."""

    def round_finished(self, report: RoundReport) -> None:
        """After a round has changed the model."""
        ...

    def evaluated(self, report: EvaluationReport, *, is_best: bool) -> None:
        """After a validation or the test."""
        ...

    def queried(self, what: str, server_round: int, traffic: Traffic) -> None:
        """After a question beside training and evaluation; whoever is missing left a gap."""
        ...

    def linear_fitted(self, mixture: Mixture) -> None:
        """After linear models were solved for and mixes tried; the first is the one chosen."""
        ...

    def groups_chosen(self, chosen: GroupsChosen) -> None:
        """After validation has said whether groups stay; what follows is of the model chosen."""
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

    def queried(self, what: str, server_round: int, traffic: Traffic) -> None:
        """Nothing."""

    def linear_fitted(self, mixture: Mixture) -> None:
        """Nothing."""

    def groups_chosen(self, chosen: GroupsChosen) -> None:
        """Nothing."""

    def save(self, state: TrainingState) -> None:
        """Nothing: such a run cannot be resumed."""


def metric_record(report: RoundReport | EvaluationReport) -> MetricRecord:
    """The defined measures, as Flower's `Result` holds them."""
    measures: Mapping[str, Any]
    if isinstance(report, EvaluationReport):
        measures = report.measures
    else:
        measures = {n: getattr(report, n) for n in ("train_loss", "load_entropy", "churn")}
    values = {"users": report.users, "targets": report.targets, **measures}
    return MetricRecord({n.replace("_", "-"): v for n, v in values.items() if v is not None})


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value

"""Quality measures computed from sums. A new one: its file, and its line in `METRICS`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace

import numpy as np

from mrff.config import RunConfig
from mrff.metrics.auc import AUC, AUC_ERROR_BOUND
from mrff.metrics.both import AUC_AND_NDCG
from mrff.metrics.calibration import CALIBRATION_ERROR
from mrff.metrics.gauc import GAUC
from mrff.metrics.lists import COVERAGE, POPULARITY
from mrff.metrics.log_loss import LOG_LOSS
from mrff.metrics.metric import Grain, Metric, Ranks, Reads, Scored, Statistic
from mrff.metrics.people import PEOPLE
from mrff.metrics.ranking import CANDIDATES, PART_METRICS, RANKING_METRICS
from mrff.metrics.routes import CHURN, LOAD_ENTROPY
from mrff.sums import CohortSums, Quantity
from mrff.sums.cohort_sums import as_numbers

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (AUC, AUC_ERROR_BOUND, LOG_LOSS, GAUC, CALIBRATION_ERROR, LOAD_ENTROPY, CHURN,
                   *RANKING_METRICS, *PART_METRICS, CANDIDATES, COVERAGE, POPULARITY, AUC_AND_NDCG)
}  # fmt: skip
READS: dict[str, frozenset[Reads]] = {
    "click": frozenset({"logits", "routes"}),
    "next": frozenset({"ranks", "routes"}),
    "both": frozenset({"logits", "ranks", "routes"}),
}
"""What nodes know of held-out interactions, by what a run learns."""


PRIVATE_BINS = 64  # noise in 2,048 of them would blur AUC several times more
PRIVATE_LOGIT = 4.0  # a target costs at most 4.02 nats then, which is what one user may add


class Evaluation:
    """What one evaluation asks of nodes and makes of their sums; both ends build it alike.

    Args:
        grain: how finely nodes count.
        private: only measures whose sums have a bound on what one user adds.
        reads: what nodes know of held-out interactions.
        drawn: items that held-out ones are ranked among; None: all that there are.
    """

    def __init__(
        self,
        grain: Grain,
        *,
        private: bool = False,
        reads: frozenset[Reads] = READS["click"],
        drawn: int | None = None,
    ) -> None:
        self.grain, self.drawn = grain, drawn
        known = [metric for metric in METRICS.values() if metric.reads <= reads]
        self.names = [metric.name for metric in known]
        bounded = (self._bounded(metric) for metric in known)
        self.metrics = [metric for metric in bounded if metric] if private else known
        self._statistics: list[Statistic] = [PEOPLE]
        for metric in self.metrics:
            self._statistics += [s for s in metric.statistics if s not in self._statistics]

    @property
    def bounded(self) -> list[Statistic]:
        """The sums that have a bound on what one user adds."""
        return [s for s in self._statistics if s.per_user_bound(self.grain) is not None]

    def by(self, mixes: int = 1, *, listed: int = 0) -> Evaluation:
        """The same by so many mixes of scores, and with the places in lists of so many items."""
        other = copy(self)
        other.grain = replace(self.grain, mixes=mixes, listed=listed)
        return other

    def _bounded(self, metric: Metric) -> Metric | None:
        """What a private mode measures instead; None: nothing."""
        bounds = [s.per_user_bound(self.grain) for s in metric.statistics]
        return metric.bounded if None in bounds else metric

    def sums_of(self, scored: Scored) -> CohortSums:
        """What a node sends of these users."""
        sums = CohortSums()
        for statistic in self._statistics:
            sums += CohortSums({}, as_numbers(statistic.compute(scored, self.grain)))
        return sums

    def quantities(self) -> Mapping[str, Quantity]:
        """The numbers a node sends."""
        return {n: q for s in self._statistics for n, q in s.quantities(self.grain).items()}

    def check(self, sums: CohortSums) -> str:
        """What is wrong with a node's sums; empty: nothing that can be seen."""
        return next(filter(None, (s.check(sums) for s in self._statistics)), "")

    def measures(self, sums: CohortSums) -> dict[str, float | None]:
        """Every measure by its name; None where it is undefined, or hidden."""
        measured = {metric.name: metric.value(sums) for metric in self.metrics}
        return {name: measured.get(name) for name in self.names}


def evaluation_of(config: RunConfig, *, private: bool) -> Evaluation:
    """What a run's evaluations ask, the same on server and nodes.

    Args:
        private: a private mode: few bins, log loss cut off, nothing without a bound per user.
    """
    bins, holdout = config.evaluation.histogram_bins, config.for_scoring.data.holdout
    grain = Grain(bins, config.routes_shape, holdout)
    if private:
        grain = replace(grain, bins=min(bins, PRIVATE_BINS), most_logit=PRIVATE_LOGIT)
    reads = READS[config.objective]
    drawn = config.evaluation.ranking_candidates if "ranks" in reads else None
    return Evaluation(grain, private=private, reads=reads, drawn=drawn)


def measures_of_ranks(ranks: Ranks) -> dict[str, float]:
    """What ranks alone come to, by the names of metrics; undefined ones are left out."""
    nothing, routes = np.zeros(ranks.counts.shape), np.zeros((len(ranks.counts), 1), dtype=np.int64)
    evaluation = Evaluation(Grain(1, (1, 1), ranks.counts.shape[1]), reads=frozenset({"ranks"}))
    sums = evaluation.sums_of(Scored(nothing, nothing, routes, routes, ranks))
    return {n: value for n, value in evaluation.measures(sums).items() if value is not None}


def metric_named(name: str) -> Metric:
    """The metric by which a best model can be chosen.

    Raises:
        ValueError: there is none of that name, or it has no better direction.
    """
    usable = [metric.name for metric in METRICS.values() if metric.better]
    if name not in usable:
        near = difflib.get_close_matches(name, usable, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known metrics: {', '.join(usable)}"
        raise ValueError(f"select-best-by: no metric {name!r} to choose by; {hint}")
    return METRICS[name]


def shown(names: Iterable[str]) -> list[Metric]:
    """The registered metrics among ``names``, in the order of the registry."""
    wanted = set(names)
    return [metric for metric in METRICS.values() if metric.name in wanted]

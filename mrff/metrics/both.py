"""One number for a network that answers both questions: who likes an item, and which comes next."""

from __future__ import annotations

from mrff.metrics.auc import AUC
from mrff.metrics.metric import Metric
from mrff.metrics.ranking import RANKING, RANKING_METRICS
from mrff.sums import CohortSums

_NDCG = next(metric for metric in RANKING_METRICS if metric.name == "ndcg10")


def _product(sums: CohortSums) -> float:
    """Each above what chance gives, so that a percent of the one is worth a percent of the other.

    A chance AUC is 0.5; a chance NDCG@10 is next to 0. An AUC below chance counts 0.
    """
    above = 2.0 * AUC.derive(sums) - 1.0
    return (0.0 if above < 0.0 else above) * _NDCG.derive(sums)  # what is undefined stays so


AUC_AND_NDCG = Metric(
    "auc_ndcg10",
    "(2 AUC - 1) NDCG@10",
    AUC.statistic,
    _product,
    "higher",
    optional=True,
    also=RANKING,
)

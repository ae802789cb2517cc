"""What validation measures of rivals, by the metrics of a run, and whether that is the best yet."""

from __future__ import annotations

from mrff.config import ConfigError, RunConfig
from mrff.data.floors import floor_of
from mrff.experiments.central import Measures
from mrff.metrics import evaluation_of, metric_named
from mrff.metrics.metric import Reads, Scored


def measures_of(scored: Scored, config: RunConfig) -> Measures:
    """What a network came to; AUC and log loss are exact, without a run's histogram.

    Raises:
        DataError: the labels are of one class, and clicks are learned.
    """
    evaluation = evaluation_of(config, private=False)
    measures = evaluation.measures(evaluation.sums_of(scored))
    found = {name: value for name, value in measures.items() if value is not None}
    if config.objective != "next":
        exact = floor_of(scored.labels, scored.logits)
        found = {**found, "auc": exact.auc, "log_loss": exact.log_loss}
    return found


class Best:
    """The best validation yet, by the run's ``select-best-by``.

    Args:
        reads: what the method tells of held-out items.

    Raises:
        ConfigError: the method does not measure what is to be chosen by.
    """

    def __init__(self, config: RunConfig, reads: frozenset[Reads]) -> None:
        self._metric = metric_named(config.best_by)
        self._value: float | None = None
        self.step = 0
        if not self._metric.reads <= reads:
            other = "ndcg10" if "ranks" in reads else "auc"
            raise ConfigError(
                f"evaluation.select-best-by={config.best_by} is not measured by this method; "
                f"choose auto, or {other}"
            )

    def improves(self, step: int, measures: Measures) -> bool:
        """Notes the step if it is the best yet."""
        value = measures.get(self._metric.name)
        if not self._metric.is_better(value, self._value):
            return False
        self._value, self.step = value, step
        return True

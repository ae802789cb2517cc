"""LogLoss: the mean surprise of the labels, in nats."""

from __future__ import annotations

import numpy as np

from mrff.metrics.metric import Grain, Metric, Numbers, Scored, Statistic, ratio
from mrff.sums import Quantity


def _compute(scored: Scored, grain: Grain) -> Numbers:
    logits = np.clip(scored.logits, -grain.most_logit, grain.most_logit)
    signed = np.where(scored.labels > 0.5, -logits, logits)
    return {"log_loss_sum": float(np.logaddexp(0.0, signed).sum())}


SURPRISE = Statistic(
    _compute,
    lambda grain: {"log_loss_sum": Quantity()},
    lambda grain: float(np.logaddexp(0.0, grain.most_logit)) * grain.holdout,
)

LOG_LOSS = Metric(
    "log_loss",
    "LogLoss",
    SURPRISE,
    lambda s: ratio(s.number("log_loss_sum"), s.number("targets")),
    "lower",
    brief=True,
)

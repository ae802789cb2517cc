"""Whether users' groups stay: one expert for everybody unless validation says more.

After training the best model is validated once more with the mean expert of each layer, by its
users, in the place of every expert. Where that is as good, it is the run's model: it says the same
to everybody, and nobody's group is read from their list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mrff.metrics.metric import Metric
from mrff.wire.requests import Arrays
from mrff_model.scopes import expert_of, network_name
from strategies.finish import Finish
from strategies.reports import GroupsChosen
from strategies.state import TrainingState

MORE = 0.001  # of the metric that the best is chosen by: what groups have to bring


def chosen_groups(
    finish: Finish, state: TrainingState, metric: Metric
) -> tuple[GroupsChosen, Arrays] | None:
    """Asks nodes; what was chosen, with its experts.

    None where there is nothing to choose between, or no validation to choose by.
    """
    loads, value = state.loads, state.best_value
    layers = len({expert_of(name)[0] for name in state.best_group})
    if value is None or not layers or len(loads) == layers:  # a single expert per layer
        return None
    one = mean_expert(state.best_group, loads)
    report = replace(finish, best=replace(finish.best, group=one)).validated()
    with_one = report.measures[metric.name]
    kept = with_one is None or brings_more(metric, value, with_one)
    told = GroupsChosen(report.round, kept, metric.name, value, with_one, report.traffic)
    return told, state.best_group if kept else one


def mean_expert(group: Arrays, loads: Sequence[float]) -> Arrays:
    """Every expert as its layer's mean, weighted by ``loads`` (layers * K,): shares of users."""
    banks: dict[str, list[str]] = defaultdict(list)
    for name in group:
        banks[network_name(name)].append(name)
    shares = np.reshape(loads, (max(expert_of(name)[0] for name in group) + 1, -1))
    found: Arrays = {}
    for names in banks.values():
        weights = [shares[expert_of(name)] for name in names]
        total = sum(w * group[name] for w, name in zip(weights, names, strict=True)) / sum(weights)
        found |= {name: total.astype(group[name].dtype) for name in names}
    return found


def brings_more(metric: Metric, with_groups: float, with_one: float) -> bool:
    """Whether groups are better by more than `MORE`."""
    gain = with_groups - with_one
    return (gain if metric.better == "higher" else -gain) > MORE

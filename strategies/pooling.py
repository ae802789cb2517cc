"""Partial pooling of experts: each follows its own users and, in part, everybody's.

An expert that only its own users move learns from a K-th of the data. Mixing its mean update with
that of all experts of the layer shrinks the K estimates towards each other, as hierarchical models
do with estimates of similar groups (Efron and Morris, "Data analysis using Stein's estimator",
1975): what users share is learned from all of them, what sets a group apart from its own users.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from mrff.privacy.mechanisms.base import Means
from mrff_model.scopes import expert_names, expert_of, is_expert, network_name


def pool_experts(means: Means, weights: NDArray[np.float64], pooling: float) -> Means:
    """``(1 - pooling) own + pooling average`` in place of every expert's mean update.

    The average runs over the experts of a layer that have a mean, each with its weight. An expert
    without one, since nobody chose it, follows the average alone and so keeps up with the others.
    A layer in which no expert has one does not move.

    Args:
        means: mean updates by array; those that are not an expert's are returned as they are.
        weights: what is behind each expert's mean, (layers, K), not negative.
        pooling: 0 (``means`` unchanged) to 1 (all experts of a layer move alike).
    """
    if pooling == 0.0:
        return means
    banks: dict[str, Means] = defaultdict(dict)
    for name, mean in means.items():
        if is_expert(name):
            banks[network_name(name)][name] = mean
    pooled = dict(means)
    for bank, own in banks.items():
        shares = {name: weights[expert_of(name)] for name in own}
        average = sum(shares[name] * own[name] for name in own) / sum(shares.values())
        for name in expert_names(bank, weights.shape[1]):
            pooled[name] = (1.0 - pooling) * own.get(name, average) + pooling * average
    return pooled

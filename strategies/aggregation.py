"""The arithmetic of a round: replies are summed as they arrive, then divided by their weights.

A reply holds sums over a node's users already, so that adding nodes is adding sums: the mean does
not depend on how users are spread over nodes. Every reply is added and dropped; memory is one
accumulator per array, whatever the number of nodes. Accumulators are float64, which keeps the
order of arrival out of the float32 result in all but the rarest roundings.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mrff_model.scopes import expert_of
from strategies.pooling import Means, pool_experts

Arrays = dict[str, NDArray[np.float32]]


class UpdateSum:
    """Running sums of weighted updates, over all users (public) and per expert (group).

    Args:
        num_layers: layers that hold experts.
        num_experts: K, experts of a layer.
        expert_pooling: how far experts follow everybody's mean, see `pool_experts`.
    """

    def __init__(self, num_layers: int, num_experts: int, expert_pooling: float = 0.0) -> None:
        self._expert_pooling = expert_pooling
        self.weight = 0.0
        self.expert_weight = np.zeros((num_layers, num_experts))
        self._public: Means = {}
        self._group: Means = {}

    def add(
        self,
        public: Mapping[str, NDArray[np.float32]],
        group: Mapping[str, NDArray[np.float32]],
        *,
        weight: float,
        expert_weight: NDArray[np.float64],
    ) -> None:
        """Adds one node's sums; ``expert_weight`` is (layers, K).

        The caller has checked the shapes: a block that is present belongs to a positive weight.
        """
        _add(self._public, public)
        _add(self._group, group)
        self.weight += weight
        self.expert_weight += expert_weight

    def mean(self) -> Means:
        """The mean update of every block that moves; the others are absent."""
        means = {}
        if self.weight > 0.0:
            means.update({name: total / self.weight for name, total in self._public.items()})
        for name, total in self._group.items():
            weight = self.expert_weight[expert_of(name)]
            if weight > 0.0:
                means[name] = total / weight
        return pool_experts(means, self.expert_weight, self._expert_pooling)


def _add(totals: Means, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    for name, array in arrays.items():
        if name in totals:
            totals[name] += array
        else:
            totals[name] = array.astype(np.float64)

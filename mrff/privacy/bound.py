"""The one vector a unit contributes, and how its norm is shared out.

A unit's vector is its update of everything that is trained, the whole expert bank included, and a
few statistics: which expert it took in each layer (one-hot), and whether it was clipped (plus or
minus one half). The statistics have the same norm for every unit, a fixed share of C; the update
is clipped to what is left, so that the whole vector has norm at most C. One noise covers it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Norms of the parts of a unit's vector.

    Args:
        clipping_norm: C, of the whole vector.
        route_share: share of C for the statistics, in [0, 1).
        num_layers, num_experts: of the network.
        order: 2 for Gaussian noise, 1 for Laplace noise.
    """

    clipping_norm: float
    route_share: float
    num_layers: int
    num_experts: int
    order: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clipping_norm) and self.clipping_norm > 0.0):
            raise ValueError(
                f"clipping-norm must be finite and greater than 0, got {self.clipping_norm}"
            )

    @property
    def for_update(self) -> float:
        """What an update is clipped to."""
        if self.order == 1:
            return self.clipping_norm * (1.0 - self.route_share)
        return self.clipping_norm * math.sqrt(1.0 - self.route_share**2)

    @property
    def unit(self) -> float:
        """What one routed layer counts in the statistics; 0: they are empty."""
        norm = self.num_layers + 0.5 if self.order == 1 else math.sqrt(self.num_layers + 0.25)
        return self.route_share * self.clipping_norm / norm

    @property
    def num_statistics(self) -> int:
        """Length of the statistics: layers x K routes, and one for clipping."""
        return self.num_layers * self.num_experts + 1

    def statistics(self, routes: NDArray[np.int64], clipped: NDArray[np.bool_]) -> Floats:
        """(B, statistics) of B units with routes (B, layers)."""
        rows = np.zeros((len(routes), self.num_layers, self.num_experts))
        rows[np.arange(len(routes))[:, None], np.arange(self.num_layers), routes] = 1.0
        bits = np.where(clipped, 0.5, -0.5)[:, None]
        return self.unit * np.concatenate([rows.reshape(len(routes), -1), bits], axis=1)

    def shares(self, statistics: Floats, units: float) -> tuple[Floats | None, float | None]:
        """Load shares (layers, K) and clipped share, estimated from noisy summed statistics.

        Args:
            units: how many contributed, or were expected to.

        Returns:
            None each where nothing was measured.
        """
        if self.unit == 0.0 or units <= 0.0:
            return None, None
        counts = np.maximum(statistics[:-1].reshape(self.num_layers, self.num_experts), 0.0)
        totals = counts.sum(axis=1, keepdims=True)
        even = np.full_like(counts, 1.0 / self.num_experts)
        loads = np.divide(counts, totals, out=even, where=totals > 0.0)
        clipped = float(statistics[-1] / self.unit / units + 0.5)
        return loads, min(max(clipped, 0.0), 1.0)

    def next_clipping_norm(self, clipped_share: float, quantile: float, rate: float) -> float:
        """C for the next round, so that a share ``quantile`` of the norms lies below it.

        Andrew et al., "Differentially Private Learning with Adaptive Clipping", 2021, eq. 2. It is
        computed from what was released already and costs nothing more.
        """
        return self.clipping_norm * math.exp(-rate * ((1.0 - clipped_share) - quantile))

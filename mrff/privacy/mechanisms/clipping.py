"""The one vector a unit contributes: how its norm is shared out, and how it is clipped to it.

A unit's vector is its update of everything that is trained, the whole expert bank included, and a
few statistics: which expert it took in each layer (one-hot), and whether it was clipped (plus or
minus one half). The statistics have the same norm for every unit, a fixed share of C; the update
is clipped to what is left, so that the whole vector has norm at most C. One noise covers it all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrff.privacy.mechanisms.base import named_outside
from mrff.sums import Chunk, CohortSums, Tensors
from mrff_model.shared import Network

STATISTICS = "statistics"  # the name of the part of the vector that `Bound.statistics` describes
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Norms of the parts of a unit's vector.

    Args:
        clipping_norm: C, of the whole vector.
        route_share: share of C for the statistics, in [0, 1).
        num_layers, num_experts: of the network.
        order: 2 for Gaussian noise, 1 for Laplace noise.
        kept: share of C that a vector is clipped to; the rest is for what comes after the clipping.
    """

    clipping_norm: float
    route_share: float
    num_layers: int
    num_experts: int
    order: Literal[1, 2] = 2
    kept: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clipping_norm) and self.clipping_norm > 0.0):
            raise ValueError(
                f"clipping-norm must be finite and greater than 0, got {self.clipping_norm}"
            )

    @property
    def for_update(self) -> float:
        """What an update is clipped to."""
        norm = self.kept * self.clipping_norm
        if self.order == 1:
            return norm * (1.0 - self.route_share)
        return norm * math.sqrt(1.0 - self.route_share**2)

    @property
    def unit(self) -> float:
        """What one routed layer counts in the statistics; 0: they are empty."""
        norm = self.num_layers + 0.5 if self.order == 1 else math.sqrt(self.num_layers + 0.25)
        return self.route_share * self.kept * self.clipping_norm / norm

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


class ClippedUsers:
    """See `Accumulator`; adds whole users' vectors up, each clipped to the bound.

    Args:
        shared: what is trained, by name.
        bound: of one user's vector.
        weights: what each array of the vector is multiplied with.
    """

    def __init__(self, shared: Tensors, bound: Bound, weights: Mapping[str, float]) -> None:
        self._shared, self._bound, self._weights = shared, bound, weights
        self._update = {n: v.new_zeros(v.numel(), dtype=torch.float64) for n, v in shared.items()}
        self._statistics = np.zeros(bound.num_statistics)

    def accumulate(self, chunk: Chunk) -> None:
        """A user whose update is not finite adds nothing at all."""
        assert chunk.outcome.changes is not None
        factors, statistics = self.clipped(chunk)
        usable = factors > 0.0
        for name, change in chunk.outcome.changes.items():
            scaled = factors[usable].to(change) * self._weights[name]
            self._update[name] += scaled @ change[usable]
        self._statistics += statistics[usable.cpu().numpy()].sum(axis=0)

    def clipped(self, chunk: Chunk) -> tuple[Tensor, Floats]:
        """What clips each user's update: (B,) factors, 0 for nothing; (B, statistics) of them."""
        outcome, bound = chunk.outcome, self._bound
        assert outcome.changes is not None
        norms = vector_norms(outcome.changes, bound.order, self._weights)
        factors = clip_factors(norms, bound.for_update, outcome.finite)
        routes, clipped = (t.cpu().numpy() for t in (outcome.routes, norms > bound.for_update))
        return factors, bound.statistics(routes, clipped)

    def sums(self, network: Network) -> CohortSums:
        """See `Accumulator`; every array of the vector is there."""
        update = {name: self._update[name].view_as(v) for name, v in self._shared.items()}
        return whole_vector(network, update, self._statistics)


def whole_vector(network: Network, update: Tensors, statistics: np.ndarray) -> CohortSums:
    """One summed vector by the names arrays have outside the network: the whole bank is in it."""
    return CohortSums({**named_outside(network, update), STATISTICS: statistics})


def vector_norms(parts: Tensors, order: int, weights: Mapping[str, float]) -> Tensor:
    """(B,) float64 norms of vectors that come in weighted parts (B, ...); 1 where none is given."""
    norms = [
        torch.linalg.vector_norm(part.reshape(len(part), -1), order, dim=1, dtype=torch.float64)
        * weights.get(name, 1.0)
        for name, part in parts.items()
    ]
    return torch.linalg.vector_norm(torch.stack(norms, dim=1), order, dim=1)


def clip_factors(norms: Tensor, bound: float, finite: Tensor) -> Tensor:
    """(B,) what each vector is multiplied with; 0 for one that is not finite.

    The factor is rounded down by as much as float32 may round up afterwards.
    """
    usable = torch.isfinite(norms) & finite.to(norms.device)
    factors = (bound * (1.0 - 1e-6) / norms.clamp(min=1e-30)).clamp(max=1.0)
    return torch.where(usable, factors, torch.zeros_like(factors))


def scaled_rows(gradient: Tensor, factors: Tensor, usable: Tensor) -> Tensor:
    """(B, ...) times (B,); rows that are not usable are zero, whatever they hold."""
    shape = (-1, *[1] * (gradient.dim() - 1))
    zeroed = torch.where(usable.view(shape), gradient, torch.zeros_like(gradient))
    return zeroed * factors.view(shape).to(gradient)

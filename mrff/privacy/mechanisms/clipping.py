"""Vectors of bounded norm: what a unit contributes is clipped before it meets that of others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mrff.privacy.bound import Bound
from mrff.privacy.mechanisms.base import named_outside
from mrff.sums import Chunk, CohortSums, Tensors
from mrff_model.network import MRFFNetwork

STATISTICS = "statistics"  # the name of the part of the vector that `Bound.statistics` describes


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
        outcome, bound = chunk.outcome, self._bound
        assert outcome.changes is not None
        norms = vector_norms(outcome.changes, bound.order, self._weights)
        factors = clip_factors(norms, bound.for_update, outcome.finite)
        usable = factors > 0.0
        for name, change in outcome.changes.items():
            scaled = factors[usable].to(change) * self._weights[name]
            self._update[name] += scaled @ change[usable]
        routes, clipped, kept = (
            values.cpu().numpy() for values in (outcome.routes, norms > bound.for_update, usable)
        )
        self._statistics += bound.statistics(routes[kept], clipped[kept]).sum(axis=0)

    def sums(self, network: MRFFNetwork) -> CohortSums:
        """See `Accumulator`; every array of the vector is there."""
        update = {name: self._update[name].view_as(v) for name, v in self._shared.items()}
        return whole_vector(network, update, self._statistics)


def whole_vector(network: MRFFNetwork, update: Tensors, statistics: np.ndarray) -> CohortSums:
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

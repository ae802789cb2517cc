"""Vectors of bounded norm: what a unit contributes is clipped before it meets that of others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mrff.privacy.bound import Bound
from mrff.sums import Tensors


class ClippedSum:
    """Adds users' vectors up, each clipped to the bound.

    Args:
        shapes: what is trained, by name.
        bound: of one user's vector.
        weights: what each array of the vector is multiplied with.
    """

    def __init__(self, shapes: Tensors, bound: Bound, weights: Mapping[str, float]) -> None:
        self.bound, self.weights = bound, weights
        self.update = {n: v.new_zeros(v.numel(), dtype=torch.float64) for n, v in shapes.items()}
        self.statistics = np.zeros(bound.num_statistics)

    def add(self, changes: Tensors, routes: np.ndarray, finite: np.ndarray) -> None:
        """Adds B users: ``changes`` (B, n) by name, ``routes`` (B, layers), ``finite`` (B,).

        A user whose update is not finite adds nothing at all.
        """
        norms = vector_norms(changes, self.bound.order, self.weights)
        factors = clip_factors(norms, self.bound.for_update, torch.from_numpy(finite))
        usable = factors > 0.0
        for name, change in changes.items():
            scaled = factors[usable].to(change) * self.weights[name]
            self.update[name] += scaled @ change[usable]
        clipped = (norms > self.bound.for_update).cpu().numpy()
        kept = usable.cpu().numpy()
        self.statistics += self.bound.statistics(routes[kept], clipped[kept]).sum(axis=0)


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

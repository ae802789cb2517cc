"""Users' vectors on a grid of whole numbers: clipped, rounded at random, measured once more.

Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
Secure Aggregation", ICML 2021. C is ``steps`` steps of the grid, for the vector *after* rounding.
Random rounding makes a vector of d numbers longer, by their proposition 4 hardly ever beyond
c^2 + d/4 + sqrt(2 log(1/beta)) (c + sqrt(d)/2) in squares: vectors are clipped to the c for which
that is C. One that is longer all the same is rounded towards zero, which makes none longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mrff.config import ConfigError
from mrff.privacy.mechanisms.clipping import Bound, ClippedUsers, whole_vector
from mrff.privacy.noise import NoiseSource
from mrff.sums import Chunk, CohortSums, Tensors
from mrff_model.shared import Network

_SLACK = math.sqrt(2.0 * 30.0 * math.log(2.0))  # beta is 2**-30
_ROWS_BYTES = 1 << 26  # of users' vectors that are rounded at once


@dataclass(frozen=True)
class Grid:
    """The grid of a vector of ``size`` numbers.

    Args:
        steps: C over the distance of two points: the L2 sensitivity of a sum of whole numbers. A
            vector of whole numbers with L2 norm S has an L1 norm of at most S squared.
    """

    steps: int
    size: int

    @property
    def kept(self) -> float:
        """The share of C that vectors are clipped to before they are rounded.

        Raises:
            ConfigError: nothing would be left.
        """
        longer = self.size / 4.0 + _SLACK * math.sqrt(self.size) / 2.0 - self.steps**2
        clipped = (math.sqrt(max(_SLACK**2 - 4.0 * longer, 0.0)) - _SLACK) / 2.0
        if clipped <= 0.0:
            least = math.ceil(2.0 * math.sqrt(self.steps**2 + longer))
            raise ConfigError(
                f"privacy.grid-steps={self.steps} is too few for vectors of {self.size:,} numbers: "
                f"rounding alone makes them longer than that; use {least:,} or more"
            )
        return clipped / self.steps

    def rounded(self, vectors: NDArray[np.float32], source: NoiseSource) -> NDArray[np.float32]:
        """(B, size) in steps of the grid as whole numbers, each row of L2 norm at most ``steps``.

        Up to a share of 2**-30 of all draws every number is its value on average.
        """
        whole = source.rounded(vectors)
        for shorter in (np.trunc, np.zeros_like):  # the second one for a row that is not clipped
            longer = ~(np.einsum("bn,bn->b", whole, whole, dtype=np.float64) <= self.steps**2)
            if longer.any():
                whole[longer] = shorter(vectors[longer])
        return whole


class RoundedUsers(ClippedUsers):
    """See `Accumulator`; adds users up as vectors of whole numbers.

    Args:
        grid: of their vectors.
        source: of the coins that decide where a number is rounded to.
    """

    def __init__(
        self,
        shared: Tensors,
        bound: Bound,
        weights: Mapping[str, float],
        grid: Grid,
        source: NoiseSource,
    ) -> None:
        super().__init__(shared, bound, weights)
        self._grid, self._source = grid, source
        self._total = np.zeros(grid.size, np.int64)

    def accumulate(self, chunk: Chunk) -> None:
        """A user whose update is not finite adds nothing at all."""
        changes = chunk.outcome.changes
        assert changes is not None
        factors, statistics = self.clipped(chunk)
        places = (factors > 0.0).nonzero().flatten()
        step = self._bound.clipping_norm / self._grid.steps
        at_once = max(1, _ROWS_BYTES // (4 * self._grid.size))
        for rows in places.split(at_once):
            parts = [
                changes[name][rows]
                * (factors[rows] * (self._weights[name] / step))[:, None].float()
                for name in self._shared
            ]
            own = torch.from_numpy(statistics[rows.cpu().numpy()] / step).to(parts[0])
            vectors = torch.cat([*parts, own], dim=1).cpu().numpy()
            whole = self._grid.rounded(vectors, self._source)
            self._total += whole.sum(axis=0, dtype=np.float64).astype(np.int64)

    def sums(self, network: Network) -> CohortSums:
        """See `Accumulator`; int64, in steps of the grid."""
        sizes = [value.numel() for value in self._shared.values()]
        *parts, statistics = np.split(self._total, np.cumsum(sizes))
        update = {
            name: torch.from_numpy(part).view(value.shape)
            for (name, value), part in zip(self._shared.items(), parts, strict=True)
        }
        return whole_vector(network, update, statistics)

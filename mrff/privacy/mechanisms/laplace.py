"""Mechanism ``laplace``: whole users clipped in the L1 norm, each with Laplace noise of their own.

The noise is added on the client: the server and everyone after it are kept out. It is the variant
usual in the line of papers that MRFF belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.privacy.accounting import Release
from mrff.privacy.mechanisms.clipping import STATISTICS
from mrff.privacy.mechanisms.noised import NoisedClient, NoisedMechanism
from mrff.privacy.mechanisms.settings import item_conflicts
from mrff.privacy.noise import NoiseSource, is_predictable
from mrff.sums import CohortSums


class LaplaceClient(NoisedClient):
    """See `ClientHalf`."""

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """The sums with the noise of every user who took part."""
        users = int(admitted.sum())
        scale = self.config.privacy.noise_multiplier * self.bound.clipping_norm
        noisy = {}
        if users:
            sources = self._sources(admitted)
            in_network_order = [name for name in sums.updates if name != STATISTICS]
            for name in (*in_network_order, STATISTICS):
                total = sums.updates[name].astype(np.float64)
                for source, count in sources:
                    total = total + source.laplace_sums(total.shape, scale, count)
                noisy[name] = total
        deviation = scale * float(np.sqrt(2.0 * users))
        return self.released(CohortSums(noisy), units=users, deviation=deviation)

    def _sources(self, admitted: NDArray[np.bool_]) -> list[tuple[NoiseSource, int]]:
        """Streams, and how many users' noise each one makes."""
        if not is_predictable():
            return [(self.source("laplace"), int(admitted.sum()))]
        # One stream per user: the sum is the same on any layout of users over nodes.
        keys = self.view.user_keys[admitted]
        return [(self.source(f"laplace of user {key}"), 1) for key in keys]


class Laplace(NoisedMechanism):
    """See `Mechanism`."""

    name = "laplace"
    client_half = LaplaceClient

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from super().conflicts(config)
        yield from item_conflicts(config, "noise of every node's own leaves nothing of its rates")

    def release(self, config: RunConfig) -> Release:
        return Release(config.privacy.noise_multiplier, mechanism="laplace")

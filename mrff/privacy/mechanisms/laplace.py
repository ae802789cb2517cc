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
from mrff.privacy.mechanisms.base import Needs
from mrff.privacy.mechanisms.noised import STATISTICS, NoisedClient, NoisedServer
from mrff.privacy.mechanisms.settings import private_conflicts, whole_user_conflicts
from mrff.privacy.noise import NoiseSource, is_predictable
from mrff.sums import CohortSums, NodeView, ServerView


class Laplace:
    """See `Mechanism`."""

    name = "laplace"
    needs: Needs = "each_user"
    hides_routes = True
    not_trusted = "the server and everyone after it"
    covers = "everything a node uploads in training"

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        """See `Mechanism.conflicts`."""
        yield from private_conflicts(config)
        yield from whole_user_conflicts(config.privacy)

    def release(self, config: RunConfig) -> Release:
        """See `Mechanism.release`."""
        return Release(config.privacy.noise_multiplier, mechanism="laplace")

    def client(self, view: NodeView) -> LaplaceClient:
        """See `Mechanism.client`."""
        return LaplaceClient(view, self.release(view.config), order=1)

    def server(self, view: ServerView) -> NoisedServer:
        """See `Mechanism.server`; the noise is in the replies."""
        return NoisedServer(view, self.release(view.config), order=1)


class LaplaceClient(NoisedClient):
    """See `ClientHalf`."""

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """The sums with the noise of every user who took part."""
        users = int(admitted.sum())
        scale = self.config.privacy.noise_multiplier * self.bound.clipping_norm
        sources = self._sources(admitted) if users else []
        in_network_order = {n: sums.updates[n] for n in sums.updates if n != STATISTICS}
        noisy = {n: _plus_laplace(v, scale, sources) for n, v in in_network_order.items()}
        if users:
            noisy[STATISTICS] = _plus_laplace(sums.updates[STATISTICS], scale, sources)
        deviation = scale * float(np.sqrt(2.0 * users))
        return self.released(CohortSums(noisy), units=users, deviation=deviation)

    def _sources(self, admitted: NDArray[np.bool_]) -> list[tuple[NoiseSource, int]]:
        """Streams, and how many users' noise each one makes."""
        if not is_predictable():
            return [(self.source("laplace"), int(admitted.sum()))]
        # One stream per user: the sum is the same on any layout of users over nodes.
        keys = self.view.user_keys[admitted]
        return [(self.source(f"laplace of user {key}"), 1) for key in keys]


def _plus_laplace(
    exact: NDArray[np.float64], scale: float, sources: list[tuple[NoiseSource, int]]
) -> NDArray[np.float64]:
    total = exact.astype(np.float64)
    for source, users in sources:
        total = total + source.laplace_sums(total.shape, scale, users)
    return total

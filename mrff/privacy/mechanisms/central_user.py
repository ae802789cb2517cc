"""Mechanism ``central-user``: nodes send sums of clipped users, the server adds Gaussian noise.

The unit is the user; whoever sees the model or the metrics of training is kept out, the server is
trusted (McMahan et al., "Learning Differentially Private Recurrent Language Models", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.privacy.accounting import Limit, Release, check_delta
from mrff.privacy.mechanisms.base import ModelShapes, Released
from mrff.privacy.mechanisms.noised import NoisedClient, NoisedMechanism, NoisedServer
from mrff.privacy.mechanisms.none import refuse_own_budget
from mrff.privacy.noise import NoiseSource, is_predictable
from mrff.privacy.noised_evaluation import NoisyTest
from mrff.privacy.noised_items import ITEMS, NoisyItems
from mrff.privacy.spending import WHOLE_DATASET, limit_of
from mrff.sums import CohortSums, Expected, NodeView, require
from mrff.sums.cohort_sums import as_numbers


class CentralClient(NoisedClient):
    """Who was drawn is part of the guarantee: nobody may be able to repeat the draw."""

    def admit(self) -> NDArray[np.bool_]:
        """See `ClientHalf.admit`; the server's ledger counts."""
        refuse_own_budget(self.view, "central-user")
        if is_predictable():
            return self.view.drawn()
        return NoiseSource().coins(len(self.view.user_keys), self.config.training.sampling_rate)

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """The units are all users who may be drawn: whether one was is secret."""
        return self.released(sums, units=len(admitted), deviation=0.0)


class CentralServer(NoisedServer):
    """One noise, added before anything else sees the sum."""

    sums_of_items = NoisyItems

    def spend(self, server_round: int, limit: Limit | None = None) -> float | None:
        limit = limit or limit_of(self.config.privacy)
        super().spend(server_round, limit)
        epsilon = self._ledger.epsilon(WHOLE_DATASET, limit)
        return epsilon if math.isfinite(epsilon) else None

    def spend_test(self, server_round: int, limit: Limit | None = None) -> None:
        super().spend_test(server_round, limit or limit_of(self.config.privacy))

    def release_test(self, sums: CohortSums) -> CohortSums:
        """The server adds the noise before anything else reads the sums."""
        source = NoiseSource(purpose="server, test")
        return super().release_test(self.noisy_test.noised(sums, source))

    def spend_items(self, limit: Limit | None = None) -> None:
        super().spend_items(limit or limit_of(self.config.privacy))

    def release_items(self, sums: CohortSums) -> CohortSums:
        """As `release_test`."""
        assert self.noisy_items is not None
        source = NoiseSource(purpose="server, items")
        noisy = source.noised(sums.updates[ITEMS], self.noisy_items.deviation)
        return CohortSums({ITEMS: noisy}, sums.numbers)

    def source(self, server_round: int) -> NoiseSource:
        """The noise of a round."""
        return NoiseSource(purpose=f"server, round {server_round}")

    def check(self, sums: CohortSums, expected: Expected) -> None:
        """A node's sum cannot be longer than its users allow; statistics are part of it."""
        super().check(sums, expected)
        squares = [float(np.square(a, dtype=np.float64).sum()) for a in sums.updates.values()]
        norm, units = math.sqrt(sum(squares)), sums.number("units")
        require(
            norm <= units * self._norm * (1.0 + 1e-4),
            f"the sum of {units} users clipped to {self._norm:g} has norm {norm:g}",
        )

    def release(self, sums: CohortSums, server_round: int, shapes: ModelShapes) -> Released:
        units, privacy = sums.number("units"), self.config.privacy
        check_delta(privacy.delta, units)
        deviation = privacy.noise_multiplier * self._norm
        source = self.source(server_round)
        noisy = {
            name: source.noised(sums.updates.get(name, np.zeros(shape)), deviation)
            for name, shape in self.expected(shapes).updates.items()
        }
        numbers = as_numbers({"noise_variance": deviation**2})
        expected_units = self.config.training.sampling_rate * units
        return self.divided(CohortSums(noisy, numbers), expected_units, shapes)


class CentralUser(NoisedMechanism):
    """See `Mechanism`."""

    name = "central-user"
    not_trusted = "everyone after the server; the server itself is trusted and sees updates"
    covers = "the model after every round, and all published numbers of training"
    client_half, server_half = CentralClient, CentralServer

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from super().conflicts(config)
        if config.server.compression != "none":
            yield (
                f"server.compression={config.server.compression} cannot go with privacy.mode="
                "central-user: a user can change the rounding of their node's whole sum, by more "
                "than privacy.clipping-norm; use server.compression=none"
            )

    def evaluated(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """The server's ledger counts, and the server adds the noise."""
        refuse_own_budget(view, self.name)
        return NoisyTest(view.config).vector(sums)

    def counted(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """As `evaluated`."""
        refuse_own_budget(view, self.name)
        return sums

    def release(self, config: RunConfig) -> Release:
        return Release(config.privacy.noise_multiplier, config.training.sampling_rate)

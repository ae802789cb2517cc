"""Mechanism ``distributed-user``: nodes add noise that is enough only in their secure sum.

Every user is clipped and rounded to whole numbers; the node adds Skellam noise to the sum over its
users (Agarwal, Kairouz and Liu, "The Skellam Mechanism", NeurIPS 2021). Skellam numbers add up to
Skellam numbers: t nodes whose sums are opened, c of whom tell the server their noise, are left with
t - c shares of sigma^2 / (t - c). Nobody sees less than that sum, so nobody need be trusted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrff.config import ConfigError, RunConfig
from mrff.privacy.accounting import Release
from mrff.privacy.mechanisms.base import ModelShapes, Released
from mrff.privacy.mechanisms.clipping import Bound
from mrff.privacy.mechanisms.grid import Grid, RoundedUsers
from mrff.privacy.mechanisms.noised import NoisedClient, NoisedMechanism, NoisedServer
from mrff.privacy.mechanisms.shares import (
    SharedItems,
    SharedTest,
    check_share,
    share_of,
    variance_in_steps,
)
from mrff.privacy.noise import NoiseSource
from mrff.privacy.skellam import LARGEST_VARIANCE
from mrff.privacy.spending import spend_on_node
from mrff.sums import CohortSums, Expected, NodeView, Quantity, ServerView, Tensors
from mrff.sums.cohort_sums import as_numbers

LEAST_DEVIATION = 16.0  # of the noise, in steps: there Skellam costs 1 % more than Gaussian noise
_DEVIATIONS = 64.0  # room in the ring: 13 of the noise of all, of whom 1 in 20 is needed and honest


class DistributedClient(NoisedClient):
    """See `ClientHalf`."""

    def begin(self, shared: Tensors) -> RoundedUsers:
        size = sum(value.numel() for value in shared.values()) + self.bound.num_statistics
        grid = Grid(self._release.grid_steps, size)
        weights = {name: self.config.privacy.clipping_weight(name) for name in shared}
        bound = replace(self.bound, kept=grid.kept)
        return RoundedUsers(shared, bound, weights, grid, self.source("rounding"))

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """Whole numbers with this node's share of the noise, also where it has no users."""
        source, honest = self.source("skellam"), self.view.honest_nodes
        variance = share_of(self._release, honest)
        noisy = {
            name: total + source.skellam(total.shape, variance)
            for name, total in sums.updates.items()
        }
        numbers = {"units": int(admitted.sum()), "noise_share": 1.0 / honest}
        return CohortSums(noisy, as_numbers(numbers))

    def source(self, purpose: str) -> NoiseSource:
        return _source(self.view, purpose)


class DistributedServer(NoisedServer):
    """It sees sums over nodes only; see `ServerHalf`."""

    test, sums_of_items = SharedTest, SharedItems

    def __init__(self, view: ServerView, release: Release) -> None:
        super().__init__(view, release)
        ring = view.config.privacy.secure_ring_bits
        releases = (release, self.noisy_test.release)
        deviation = math.sqrt(max(variance_in_steps(one) for one in releases))
        largest = view.units * release.grid_steps + _DEVIATIONS * deviation
        needed = math.ceil(math.log2(largest)) + 1
        if needed > ring:
            raise ConfigError(
                f"privacy.secure-ring-bits={ring} are too few: sums of {view.units:,} users with "
                f"privacy.grid-steps={release.grid_steps} and their noise need {needed} bits; "
                "choose a larger ring or fewer grid-steps"
            )

    def expected(self, shapes: ModelShapes) -> Expected:
        """Also of a node without users: its noise counts."""
        plain = super().expected(shapes)
        numbers = {"units": plain.numbers["units"], "noise_share": Quantity()}
        step = self._norm / self._release.grid_steps
        return Expected(plain.updates, numbers, steps=dict.fromkeys(plain.updates, step))

    def check(self, sums: CohortSums, expected: Expected) -> None:
        check_share(sums)

    def release(self, sums: CohortSums, server_round: int, shapes: ModelShapes) -> Released:
        step = self._norm / self._release.grid_steps
        variance = sums.number("noise_share") * variance_in_steps(self._release) * step**2
        numbers = {"units": sums.number("units"), "noise_variance": variance}
        noised = CohortSums(sums.updates, as_numbers(numbers))
        return super().release(noised, server_round, shapes)

    def _bound(self, shapes: ModelShapes) -> Bound:
        bound = super()._bound(shapes)
        trained = sum(math.prod(shape) for shape in self.trained(shapes).values())
        grid = Grid(self._release.grid_steps, trained + bound.num_statistics)
        return replace(bound, kept=grid.kept)


class DistributedUser(NoisedMechanism):
    """See `Mechanism`."""

    name = "distributed-user"
    not_trusted = "the server, everyone after it, and privacy.secure-colluders nodes with them"
    covers = "the secure sums of items and of every training round, and all computed from them"
    client_half, server_half = DistributedClient, DistributedServer

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from super().conflicts(config)
        privacy, rate, mode = config.privacy, config.training.sampling_rate, "distributed-user"
        if not privacy.secure_aggregation:
            yield (
                f"privacy.secure-aggregation=false cannot go with privacy.mode={mode}: one node's "
                "noise hides nobody; use privacy.secure-aggregation=true"
            )
        if rate != 1.0:
            yield (
                f"training.sampling-rate={rate:g} cannot go with privacy.mode={mode}: all users "
                "take part in every round, nothing is gained by drawing some; "
                "use training.sampling-rate=1"
            )
        if privacy.accountant != "rdp":
            yield (
                f"privacy.accountant={privacy.accountant} cannot go with privacy.mode={mode}: "
                "Skellam noise is counted in Renyi divergence; use privacy.accountant=rdp"
            )
        least, most = LEAST_DEVIATION, math.sqrt(LARGEST_VARIANCE)
        noises = {"noise-multiplier": privacy.noise_multiplier, "test-noise": privacy.test_noise}
        if config.reads_item_statistics:
            noises["item-noise"] = privacy.item_noise
        for key, noise in noises.items():
            deviation = noise * privacy.grid_steps
            if not least <= deviation <= most:
                too, other = ("small", "more") if deviation < least else ("large", "fewer")
                yield (
                    f"privacy.{key}={noise:g} with privacy.grid-steps={privacy.grid_steps} is "
                    f"noise of {deviation:.3g} steps of the grid, too {too} for it ({least:g} to "
                    f"{most:,.0f}); use {other} grid-steps"
                )

    def evaluated(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """A share of the noise, as in training."""
        test = SharedTest(view.config)
        if len(view.user_keys):
            spend_on_node(view, view.user_keys, test.release)
        return test.shared(sums, _source(view, "test"), view.honest_nodes)

    def counted(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """A share of the noise, as in training."""
        items = SharedItems(view.config)
        if len(view.user_keys):
            spend_on_node(view, view.user_keys, items.release)
        return items.shared(sums, _source(view, "items"), view.honest_nodes)

    def release(self, config: RunConfig) -> Release:
        privacy = config.privacy
        return Release(privacy.noise_multiplier, mechanism="skellam", grid_steps=privacy.grid_steps)


def _source(view: NodeView, purpose: str) -> NoiseSource:
    """A stream of this node alone, also where a test makes all streams predictable."""
    node = hashlib.sha256(view.user_keys.tobytes()).hexdigest()
    return NoiseSource(purpose=f"{purpose} of node {node}, round {view.round_number}")

"""Mechanism ``distributed-user``: nodes add noise that is enough only in their secure sum.

Every user is clipped and rounded to whole numbers; the node adds Skellam noise to the sum over its
users (Agarwal, Kairouz and Liu, "The Skellam Mechanism", NeurIPS 2021). Skellam numbers add up to
Skellam numbers: t nodes whose sums are opened, c of whom tell the server their noise, are left with
t - c shares of sigma^2 / (t - c). Nobody sees less than that sum, so nobody need be trusted.
"""

from __future__ import annotations

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
from mrff.privacy.skellam import LARGEST_VARIANCE
from mrff.sums import CohortSums, Expected, Quantity, ServerView, Tensors, require
from mrff.sums.cohort_sums import as_numbers

LEAST_DEVIATION = 16.0  # of the noise, in steps: there Skellam costs 1 % more than Gaussian noise
_DEVIATIONS = 64.0  # room in the ring: 13 of the noise of all, of whom 1 in 20 is needed and honest
_SHARE_ERROR = 1e-3  # of a sum of shares, which travel as multiples of 2^-24


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
        keys, honest = self.view.user_keys, self.view.honest_nodes
        source = self.source(f"skellam of {np.bitwise_xor.reduce(keys) if len(keys) else 0}")
        variance = math.ceil(variance_in_steps(self._release) / honest)
        noisy = {
            name: total + source.skellam(total.shape, variance)
            for name, total in sums.updates.items()
        }
        numbers = {"units": int(admitted.sum()), "noise_share": 1.0 / honest}
        return CohortSums(noisy, as_numbers(numbers))


class DistributedServer(NoisedServer):
    """It sees sums over nodes only; see `ServerHalf`."""

    def __init__(self, view: ServerView, release: Release) -> None:
        super().__init__(view, release)
        ring = view.config.privacy.secure_ring_bits
        deviation = math.sqrt(variance_in_steps(release))
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
        share = sums.number("noise_share")
        require(sums.number("units") > 0, "there is nobody in the sum")
        require(
            share >= 1.0 - _SHARE_ERROR,
            f"the noise of the nodes that are left is {share:.4g} of what was promised",
        )

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
    covers = "the secure sum of every training round, and everything computed from it"
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
        deviation = privacy.noise_multiplier * privacy.grid_steps
        least, most = LEAST_DEVIATION, math.sqrt(LARGEST_VARIANCE)
        if not least <= deviation <= most:
            too, other = ("small", "more") if deviation < least else ("large", "fewer")
            yield (
                f"privacy.noise-multiplier={privacy.noise_multiplier:g} with privacy.grid-steps="
                f"{privacy.grid_steps} is noise of {deviation:.3g} steps of the grid, too {too} "
                f"for it ({least:g} to {most:,.0f}); use {other} grid-steps"
            )

    def release(self, config: RunConfig) -> Release:
        privacy = config.privacy
        return Release(privacy.noise_multiplier, mechanism="skellam", grid_steps=privacy.grid_steps)


def variance_in_steps(release: Release) -> float:
    """sigma^2 of the whole sum, in squared steps of the grid."""
    return (release.noise_multiplier * release.grid_steps) ** 2

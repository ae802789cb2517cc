"""What is released once in `distributed-user`, its noise shared out as that of training is.

Each of n nodes adds a share of the noise: t of them whose sums are opened, of whom c tell theirs,
are left with t - c shares that are enough (docs/privacy.md).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mrff.config import ConfigError, RunConfig
from mrff.privacy.accounting import Release
from mrff.privacy.noise import NoiseSource
from mrff.privacy.noised_evaluation import VECTOR, NoisyTest
from mrff.privacy.noised_items import ITEMS, MET, Floats, NoisyItems
from mrff.sums import CohortSums, Expected, Quantity, require
from mrff.sums.cohort_sums import as_numbers

_SHARE_ERROR = 1e-3  # of a sum of shares, which travel as multiples of 2^-24


class SharedTest(NoisyTest):
    """The test of the last model, its noise shared out as that of training is.

    A node rounds the sum over its users: of d numbers, each of them differs by less than 1 more
    than before where a user is left out. So a vector of norm 1 is given that much less of the grid.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        steps = config.privacy.grid_steps
        self.release = Release(config.privacy.test_noise, mechanism="skellam", grid_steps=steps)
        room = math.sqrt(math.prod(super().expected.updates[VECTOR]))
        if room >= steps:
            raise ConfigError(
                f"privacy.grid-steps={steps} is too few for the test, whose rounding takes "
                f"{room:.0f} of them; use {math.ceil(2.0 * room):,} or more"
            )
        self._per_unit = (steps - room) * (1.0 - 1e-9)

    @property
    def expected(self) -> Expected:
        return replace(super().expected, steps={VECTOR: 1.0 / self._per_unit})

    def shared(self, sums: CohortSums, source: NoiseSource, honest: int) -> CohortSums:
        """A node's vector in steps of the grid, with its share of the noise."""
        own = self.vector(sums)
        whole = np.rint(own.updates[VECTOR] * self._per_unit).astype(np.int64)
        noise = source.skellam(whole.shape, share_of(self.release, honest))
        return CohortSums({VECTOR: whole + noise}, own.numbers)


class SharedItems(NoisyItems):
    """Item statistics on the grid: weights are multiples of a step, so nothing has to be rounded.

    A user's numbers are whole numbers of steps, `MET` of a weight as well as a weight, and their
    norm is at most ``grid-steps``.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._steps = config.privacy.grid_steps
        noise = config.privacy.item_noise
        self.release = Release(noise, mechanism="skellam", grid_steps=self._steps)

    def weights(self, squares: Floats) -> Floats:
        """The next lower ones of the grid; 0 for a user of more rows than it has place for."""
        return np.floor(super().weights(squares) * MET * self._steps) / (MET * self._steps)

    def expected(self, items: int) -> Expected:
        plain = super().expected(items)
        numbers = {**plain.numbers, "noise_share": Quantity()}
        return Expected(plain.updates, numbers, steps={ITEMS: 1.0 / self._steps})

    def check(self, sums: CohortSums) -> None:
        check_share(sums)

    def shared(self, sums: CohortSums, source: NoiseSource, honest: int) -> CohortSums:
        """A node's vector in steps of the grid, with its share of the noise."""
        whole = np.rint(sums.updates[ITEMS] * self._steps).astype(np.int64)
        noise = source.skellam(whole.shape, share_of(self.release, honest))
        return CohortSums(
            {ITEMS: whole + noise}, {**sums.numbers, **as_numbers({"noise_share": 1.0 / honest})}
        )

    def _variance(self, sums: CohortSums) -> float:
        return super()._variance(sums) * float(sums.number("noise_share"))


def check_share(sums: CohortSums) -> None:
    """Raises BadReplyError for the sum of nobody, or of less noise than was promised."""
    share = sums.number("noise_share")
    require(sums.number("units") > 0, "there is nobody in the sum")
    require(
        share >= 1.0 - _SHARE_ERROR,
        f"the noise of the nodes that are left is {share:.4g} of what was promised",
    )


def variance_in_steps(release: Release) -> float:
    """sigma^2 of the whole sum, in squared steps of the grid."""
    return (release.noise_multiplier * release.grid_steps) ** 2


def share_of(release: Release, honest: int) -> int:
    """The variance of one node's noise, in squared steps of the grid."""
    return math.ceil(variance_in_steps(release) / honest)

"""The one evaluation of a private run: the test of its last model, noised and charged.

An evaluation is a query: a crafted model reads held-out rows from exact histograms. So private
runs have no validations, their last model counts, and its test is a Gaussian release. What a user
adds is one vector: each of the sums divided by the bound on its norm and by the root of their
number, so that the whole has at most norm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mrff.config import RunConfig
from mrff.metrics import Evaluation, evaluation_of
from mrff.metrics.metric import Statistic
from mrff.metrics.people import PEOPLE
from mrff.privacy.accounting import Release
from mrff.privacy.noise import NoiseSource
from mrff.sums import CohortSums, Expected, require
from mrff.sums.expected import require_arrays

VECTOR = "test"
# A record that is there or not changes its user's vector into another one: by at most 2, not 1.
_SENSITIVITY = {"user": 1.0, "record": 2.0}


class NoisyTest:
    """Both ends of it.

    Args:
        config: of the run.
    """

    def __init__(self, config: RunConfig) -> None:
        privacy = config.privacy
        self.evaluation: Evaluation = evaluation_of(config, private=True)
        self.release = Release(privacy.test_noise / _SENSITIVITY[privacy.unit])
        self._deviation = privacy.test_noise

    @property
    def expected(self) -> Expected:
        """Of every node: its vector, and how many people it is of, which is public."""
        size = sum(count for _, _, count, _ in self._parts())
        return Expected({VECTOR: (size,)}, PEOPLE.quantities(self.evaluation.grain))

    def check(self, sums: CohortSums) -> None:
        """Raises BadReplyError for what no node can have."""
        require_arrays(sums.updates.keys(), {VECTOR})
        targets = sums.number("users") * self.evaluation.grain.holdout
        require(sums.number("targets") == targets, f"targets must be {targets} of so many users")

    def vector(self, sums: CohortSums) -> CohortSums:
        """What a node knows, as one vector of its users, and how many there are."""
        numbers = sums.numbers
        parts = [np.ravel(numbers[name]) / scale for name, _, _, scale in self._parts()]
        people = {name: numbers[name] for name in PEOPLE.quantities(self.evaluation.grain)}
        return CohortSums({VECTOR: np.concatenate(parts)}, people)

    def noised(self, sums: CohortSums, source: NoiseSource) -> CohortSums:
        """With the noise that `release` is about."""
        noisy = source.noised(sums.updates[VECTOR], self._deviation)
        return CohortSums({VECTOR: noisy}, sums.numbers)

    def measured(self, sums: CohortSums) -> CohortSums:
        """Noisy sums as metrics read them; nothing is below 0."""
        vector, numbers, first = np.maximum(sums.updates[VECTOR], 0.0), dict(sums.numbers), 0
        for name, shape, count, scale in self._parts():
            part = vector[first : first + count] * scale
            numbers[name] = part.reshape(shape)
            first += count
        return CohortSums({}, numbers)

    def _parts(self) -> Iterator[tuple[str, tuple[int, ...], int, float]]:
        """Name, shape and size of every number, and what it is divided by."""
        grain, bounded = self.evaluation.grain, self.evaluation.bounded
        for statistic in bounded:
            scale = _bound(statistic, self.evaluation) * math.sqrt(len(bounded))
            for name, quantity in sorted(statistic.quantities(grain).items()):
                yield name, quantity.shape, math.prod(quantity.shape), scale


def _bound(statistic: Statistic, evaluation: Evaluation) -> float:
    bound = statistic.per_user_bound(evaluation.grain)
    assert bound is not None
    return bound

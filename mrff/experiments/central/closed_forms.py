"""EASE and SLIT of everybody's rows, with their ridge and decay chosen by validation.

The federated ones (`mrff.linear`) have one declared ridge and decay each, and stand in a mix.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrff.experiments.central.ranking import WHOLE, Candidate, Scores, Training, Users
from mrff.linear.base import decay
from mrff.linear.ease import Ease
from mrff.linear.slit import Slit

if TYPE_CHECKING:
    from scipy import sparse

EASE_RIDGES = (30.0, 100.0, 300.0, 1000.0)
EASE_DECAYS = (WHOLE, 0.95, 0.9, 0.8, 0.7)
SLIT_RIDGES = (30.0, 100.0, 300.0, 1000.0)
SLIT_DECAYS = (0.7, 0.8, 0.9, 0.95)
SLIT_AGES = 50  # items of a history that SLIT reads


def ease(training: Training) -> Iterator[Candidate]:
    """20 points: `EASE_RIDGES` by `EASE_DECAYS` of the history in scoring."""
    size = training.sequences.size
    sums = Ease().sums(training.sequences)
    for ridge in EASE_RIDGES:
        weights = Ease(ridge).solve(sums, size).astype(np.float32)
        for factor in EASE_DECAYS:
            told = f"ridge {ridge:g}, decay {factor}"
            yield Candidate(told, partial(_by_matrix, weights=weights), factor)


def slit(training: Training) -> Iterator[Candidate]:
    """16 points: `SLIT_RIDGES` by `SLIT_DECAYS`, in fitting and in scoring alike."""
    size = training.sequences.size
    for factor in SLIT_DECAYS:
        model = Slit(ages=decay(factor, SLIT_AGES))
        sums = model.sums(training.sequences)
        for ridge in SLIT_RIDGES:
            weights = Slit(ridge).solve(sums, size).astype(np.float32)
            told = f"ridge {ridge:g}, decay {factor}"
            yield Candidate(told, partial(_by_matrix, weights=weights), factor)


def _by_matrix(users: Users, history: sparse.csr_matrix, weights: NDArray[np.float32]) -> Scores:
    return np.asarray(history.astype(np.float32) @ weights)

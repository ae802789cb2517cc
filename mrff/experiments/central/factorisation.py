"""Matrix factorisation of who met what, by the package ``implicit``: iALS and BPR.

iALS (Hu, Koren and Volinsky, ICDM 2008): an item that was met is 1 with confidence 1 + alpha, any
other 0 with confidence 1. A user's factors are solved for again from the history before a held-out
item, where confidence falls with age: 1 + alpha * weight.
BPR (Rendle et al., UAI 2009): a user's factors are learned with the training rows and know no
order; the history only says what is no candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrff.config import ConfigError
from mrff.experiments.central.ranking import WHOLE, Candidate, Scores, Training, Users

if TYPE_CHECKING:
    from scipy import sparse

ALS_FACTORS = (64, 128)
ALS_REGULARIZATION = (10.0, 30.0)
ALS_ALPHA = (10.0, 30.0)
ALS_DECAYS = (WHOLE, 0.9, 0.8, 0.7)
ALS_ITERATIONS = 15
BPR_FACTORS = (32, 64)
BPR_REGULARIZATION = (0.01, 0.03, 0.1)
BPR_LEARNING_RATES = (0.02, 0.05)
BPR_ITERATIONS = 100


def ials(training: Training) -> Iterator[Candidate]:
    """32 points: factors, regularisation and alpha, by decays of the history in scoring."""
    implicit = _implicit("ials")
    met = training.sequences.whole().astype(np.float32)
    for factors, ridge, alpha in product(ALS_FACTORS, ALS_REGULARIZATION, ALS_ALPHA):
        model = implicit.cpu.als.AlternatingLeastSquares(
            factors=factors, regularization=ridge, iterations=ALS_ITERATIONS,
            num_threads=1, random_state=training.seed % 2**32,
        )  # fmt: skip
        model.fit(_confidence(met, alpha), show_progress=False)
        for factor in ALS_DECAYS:
            told = f"{factors} factors, regularisation {ridge:g}, alpha {alpha:g}, decay {factor}"
            yield Candidate(told, partial(_folded_in, model=model, alpha=alpha), factor)


def bpr(training: Training) -> Iterator[Candidate]:
    """12 points: factors, regularisation and learning rate."""
    implicit = _implicit("bpr")
    met = training.sequences.whole().astype(np.float32)
    for factors, decay, rate in product(BPR_FACTORS, BPR_REGULARIZATION, BPR_LEARNING_RATES):
        model = implicit.cpu.bpr.BayesianPersonalizedRanking(
            factors=factors, regularization=decay, learning_rate=rate, iterations=BPR_ITERATIONS,
            num_threads=1, random_state=training.seed % 2**32,
        )  # fmt: skip
        model.fit(met, show_progress=False)
        told = f"{factors} factors, regularisation {decay:g}, rate {rate:g}"
        by = partial(_by_factors, users_are=model.user_factors, items_are=model.item_factors)
        yield Candidate(told, by)


def _folded_in(users: Users, history: sparse.csr_matrix, *, model: Any, alpha: float) -> Scores:
    """By the factors that the histories (B, N) have, the items' being fixed."""
    factors = model.recalculate_user(users, _confidence(history.astype(np.float32), alpha))
    return np.asarray(factors @ model.item_factors.T)


def _by_factors(
    users: Users,
    history: sparse.csr_matrix,
    *,
    users_are: NDArray[np.float32],
    items_are: NDArray[np.float32],
) -> Scores:
    return np.asarray(users_are[users] @ items_are.T)


def _confidence(weights: sparse.csr_matrix, alpha: float) -> sparse.csr_matrix:
    """The package's confidence of every entry: 1 + alpha * weight."""
    confidence = weights.copy()
    confidence.data = 1.0 + alpha * confidence.data
    return confidence


def _implicit(method: str) -> ModuleType:
    """The package; it is an extra, since only comparisons want it."""
    try:
        import implicit.cpu.als  # an extra
        import implicit.cpu.bpr
    except ImportError:
        raise ConfigError(
            f"method {method} needs the package implicit, which is not installed; "
            "pip install 'mrff[rivals]', or leave the method out"
        ) from None
    return implicit

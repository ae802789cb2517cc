"""What releases cost: epsilon at a delta, composed over everything that was ever released.

A release is a sum whose sensitivity is the clipping norm C, with noise of ``noise_multiplier * C``
per coordinate. Gaussian releases are composed by Opacus' accountants: PRV (Gopi et al. 2021,
numerically tight) or RDP (Mironov 2017). Laplace releases add up in pure epsilon, or, where that
is less, in Renyi divergence. Skellam releases are sums of whole numbers (Agarwal, Kairouz and Liu,
"The Skellam Mechanism", NeurIPS 2021); whatever they are part of is added up in Renyi divergence.
Neighbouring datasets differ in one unit being there or not.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Accountant = Literal["prv", "rdp"]
ORDERS: list[float] = [
    *(1.0 + step / 10.0 for step in range(1, 100)),
    *range(12, 64),
    *(80, 96, 128, 192, 256, 512, 1024),
]
# Measured against exact deltas of Gaussians (Balle and Wang 2018): the PRV accountant's Fourier
# transforms are wrong by about 3e-17 per step. At 1e-13 and 10,000 steps it says 2.280, or 2.344
# on another processor, where 2.362 is true. RDP has no such limit.
LEAST_PRV_DELTA, LEAST_PRV_DELTA_PER_STEP = 1e-10, 1e-14
_TIGHT_BELOW = 60.0  # the PRV accountant's grid grows with epsilon; beyond, RDP's bound will do


@dataclass(frozen=True)
class Release:
    """``steps`` equal noisy sums over units that were Poisson-sampled with ``sampling_rate``.

    Args:
        grid_steps: of Skellam noise: C over the step of the grid that vectors lie on.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    mechanism: Literal["gaussian", "laplace", "skellam"] = "gaussian"
    grid_steps: int = 0
    # A test made the noise so: whoever knows how subtracts it.
    predictable: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0.0):
            raise ValueError(
                f"noise-multiplier must be greater than 0, got {self.noise_multiplier}: "
                "without noise no epsilon exists"
            )
        if not 0.0 < self.sampling_rate <= 1.0:
            raise ValueError(
                f"sampling-rate must be greater than 0 and at most 1, got {self.sampling_rate}"
            )
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")
        if self.mechanism not in ("gaussian", "laplace", "skellam"):
            raise ValueError(
                f"mechanism must be gaussian, laplace or skellam, got {self.mechanism!r}"
            )
        if self.mechanism != "gaussian" and self.sampling_rate != 1.0:
            raise ValueError(f"no amplification by sampling is claimed for {self.mechanism} noise")
        if (self.mechanism == "skellam") != (self.grid_steps > 0):
            raise ValueError(
                f"grid-steps must be at least 1 for skellam noise and 0 for any other, got "
                f"{self.grid_steps} for {self.mechanism}"
            )

    @property
    def norm_order(self) -> Literal[1, 2]:
        """Of the norm that vectors are clipped in."""
        return 1 if self.mechanism == "laplace" else 2

    def times(self, rounds: int) -> Release:
        """The same release in each of ``rounds`` rounds."""
        return replace(self, steps=self.steps * rounds)


@dataclass(frozen=True)
class Limit:
    """What may be spent; ``epsilon`` 0: there is no limit."""

    epsilon: float
    delta: float
    accountant: Accountant = "prv"


def check_delta(delta: float, units: int | None = None) -> None:
    """Whether ``delta`` says anything about ``units`` protected units.

    Raises:
        ValueError: it is outside (0, 1), or at least 1/units, where publishing one unit's data
            outright would be allowed.
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be greater than 0 and less than 1, got {delta}")
    if units is not None and units > 0 and delta >= 1.0 / units:
        raise ValueError(
            f"delta={delta:g} must be less than 1/n = {1.0 / units:.3g} for n = {units:,} units: "
            "at 1/n a mechanism may publish one unit's data and still keep its promise"
        )


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Equal kinds of releases as one, in a fixed order; empty ones left out."""
    steps: Counter[Release] = Counter()
    for release in releases:
        steps[replace(release, steps=1)] += release.steps
    kinds = (replace(kind, steps=n) for kind, n in steps.items() if n)
    order = attrgetter(
        "mechanism", "noise_multiplier", "sampling_rate", "grid_steps", "predictable"
    )
    return tuple(sorted(kinds, key=order))


def pure_epsilon(releases: Iterable[Release]) -> float:
    """Epsilon at delta 0: the sum over Laplace releases of C / scale; infinite with any others."""
    parts = merged(releases)
    if any(part.mechanism != "laplace" or part.predictable for part in parts):
        return math.inf
    return math.fsum(part.steps / part.noise_multiplier for part in parts)


def epsilon_of(releases: Iterable[Release], delta: float, accountant: Accountant = "prv") -> float:
    """An upper bound on epsilon of everything in ``releases``; 0 for nothing.

    Infinite where the noise of one was predictable: that hides nothing.

    Raises:
        ValueError: ``delta`` is outside (0, 1), or there is no such accountant.
    """
    check_delta(delta)
    if accountant not in ("prv", "rdp"):
        raise ValueError(f"accountant must be prv or rdp, got {accountant!r}")
    parts = merged(releases)
    if any(part.predictable for part in parts):
        return math.inf
    return _epsilon(parts, delta, accountant)


@lru_cache(maxsize=4096)
def _epsilon(parts: tuple[Release, ...], delta: float, accountant: Accountant) -> float:
    gaussian, laplace, skellam = (
        tuple(part for part in parts if part.mechanism == kind)
        for kind in ("gaussian", "laplace", "skellam")
    )
    if skellam:
        return _rdp_epsilon(parts, delta)
    epsilon = _gaussian_epsilon(gaussian, delta, accountant) if gaussian else 0.0
    if laplace:
        epsilon = min(epsilon + pure_epsilon(laplace), _rdp_epsilon(parts, delta))
    return epsilon


def _gaussian_epsilon(parts: tuple[Release, ...], delta: float, accountant: Accountant) -> float:
    by_rdp = _rdp_epsilon(parts, delta)
    least = max(LEAST_PRV_DELTA, LEAST_PRV_DELTA_PER_STEP * sum(part.steps for part in parts))
    if accountant == "rdp" or by_rdp > _TIGHT_BELOW or delta < least:
        return by_rdp
    # The PRV accountant adds its error to its answer: keep that below half a percent.
    error = min(0.01, max(0.004 * by_rdp, 1e-4))
    return min(_prv_epsilon(parts, delta, error), by_rdp)


def _prv_epsilon(parts: tuple[Release, ...], delta: float, error: float) -> float:
    from mrff.privacy.opacus_parts import PRVAccountant  # brings PyTorch and SciPy

    accountant = PRVAccountant()
    accountant.history = [(p.noise_multiplier, p.sampling_rate, p.steps) for p in parts]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            epsilon = float(accountant.get_epsilon(delta, eps_error=error))
        except (ValueError, RuntimeError, MemoryError):  # its grid does not fit: RDP bounds it too
            return math.inf
    return epsilon if math.isfinite(epsilon) and epsilon >= 0.0 else math.inf


def _rdp_epsilon(parts: tuple[Release, ...], delta: float) -> float:
    from mrff.privacy.opacus_parts import get_privacy_spent  # brings PyTorch

    total: NDArray[np.float64] = np.zeros(len(ORDERS))
    for part in parts:
        total = total + _rdp(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order is at the edge: the bound holds anyway
        epsilon, _ = get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)
    return max(float(epsilon), 0.0)


def _rdp(part: Release) -> NDArray[np.float64]:
    orders = np.array(ORDERS)
    if part.mechanism == "laplace":  # Mironov 2017, proposition 6
        rate = 1.0 / part.noise_multiplier
        upper = np.log(orders / (2 * orders - 1)) + (orders - 1) * rate
        lower = np.log((orders - 1) / (2 * orders - 1)) - orders * rate
        return np.asarray(part.steps * np.logaddexp(upper, lower) / (orders - 1))
    if part.mechanism == "skellam":
        return part.steps * _rdp_of_skellam(part.noise_multiplier, part.grid_steps)
    return part.steps * _rdp_of_a_step(part.noise_multiplier, part.sampling_rate)


def _rdp_of_skellam(noise_multiplier: float, grid_steps: int) -> NDArray[np.float64]:
    """Agarwal et al. 2021, corollary 3.6, for sums of whole numbers with L2 sensitivity S.

    S is ``grid_steps``; the L1 sensitivity is at most S squared, as |k| <= k * k. The variance is
    (z S) squared. The bound is one of whole orders; the divergence grows with the order.
    """
    orders, variance = np.ceil(ORDERS), noise_multiplier**2
    correction = (2 * orders + 5) / (4 * variance**2 * grid_steps**2)
    return orders / (2 * variance) + np.minimum(correction, 1.5 / variance)


@lru_cache(maxsize=1024)
def _rdp_of_a_step(noise_multiplier: float, sampling_rate: float) -> NDArray[np.float64]:
    from mrff.privacy.opacus_parts import compute_rdp  # brings PyTorch

    return np.asarray(
        compute_rdp(q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=ORDERS)
    )

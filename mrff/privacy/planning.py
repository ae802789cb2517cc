"""Solves for the one of epsilon, noise multiplier, rounds and sampling rate that is not given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from mrff.privacy.accounting import Accountant, Release, check_delta, epsilon_of

MOST_ROUNDS = 10_000_000
_LEAST_NOISE, _MOST_NOISE = 0.05, 1e6
_LEAST_RATE = 1e-7
_TOLERANCE = 5e-4  # relative, of the solved number


@dataclass(frozen=True)
class Plan:
    """Numbers that belong together: ``epsilon`` is what the others cost."""

    epsilon: float
    delta: float
    noise_multiplier: float
    rounds: int
    sampling_rate: float
    local_steps: int = 1

    def release(self) -> Release:
        """The releases of the whole plan."""
        return Release(self.noise_multiplier, self.sampling_rate, self.rounds * self.local_steps)


def solve(
    *,
    delta: float,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    rounds: int | None = None,
    sampling_rate: float | None = None,
    local_steps: int = 1,
    accountant: Accountant = "prv",
) -> Plan:
    """The plan in which exactly one of the four numbers was left open.

    Solved numbers are on the safe side: the plan's epsilon never exceeds the one asked for.

    Raises:
        ValueError: not exactly one is open, a number is outside its limits, or none fits.
    """
    check_delta(delta)
    given = {
        "epsilon": epsilon,
        "noise-multiplier": noise_multiplier,
        "rounds": rounds,
        "sampling-rate": sampling_rate,
    }
    _check(given, local_steps)
    plan = Plan(
        epsilon=epsilon or 0.0,
        delta=delta,
        noise_multiplier=noise_multiplier or 1.0,
        rounds=rounds or 1,
        sampling_rate=sampling_rate or 1.0,
        local_steps=local_steps,
    )

    def cost(candidate: Plan) -> float:
        return epsilon_of([candidate.release()], delta, accountant)

    if noise_multiplier is None:
        plan = _least_noise(plan, cost)
    elif rounds is None:
        plan = _most_rounds(plan, cost)
    elif sampling_rate is None:
        plan = _highest_rate(plan, cost)
    return replace(plan, epsilon=cost(plan))


def _check(given: dict[str, float | int | None], local_steps: int) -> None:
    missing = [name for name, value in given.items() if value is None]
    if len(missing) != 1:
        named = ", ".join(missing) or "none"
        raise ValueError(
            "leave exactly one of epsilon, noise-multiplier, rounds and sampling-rate out, "
            f"to be solved for; left out: {named}"
        )
    for name, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be greater than 0, got {value}")
    rate = given["sampling-rate"]
    if rate is not None and rate > 1.0:
        raise ValueError(f"sampling-rate must be at most 1, got {rate}")
    if local_steps < 1:
        raise ValueError(f"local-steps must be at least 1, got {local_steps}")


def _least_noise(plan: Plan, cost: Callable[[Plan], float]) -> Plan:
    def cost_of(noise: float) -> float:
        return cost(replace(plan, noise_multiplier=noise))

    high = 1.0
    while cost_of(high) > plan.epsilon:
        high *= 2.0
        if high > _MOST_NOISE:
            raise _impossible(plan, "no noise multiplier is large enough")
    low = high / 2.0
    while cost_of(low) <= plan.epsilon:
        high, low = low, low / 2.0
        if low < _LEAST_NOISE:
            return replace(plan, noise_multiplier=high)
    return replace(plan, noise_multiplier=_last_that_fits(cost_of, high, low, plan.epsilon))


def _most_rounds(plan: Plan, cost: Callable[[Plan], float]) -> Plan:
    def fits(rounds: int) -> bool:
        return cost(replace(plan, rounds=rounds)) <= plan.epsilon

    if not fits(1):
        one = cost(replace(plan, rounds=1))
        raise _impossible(plan, f"a single round already costs epsilon {one:.4g}")
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
        if high > MOST_ROUNDS:
            raise _impossible(plan, f"more than {MOST_ROUNDS:,} rounds fit; ask for less noise")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return replace(plan, rounds=low)


def _highest_rate(plan: Plan, cost: Callable[[Plan], float]) -> Plan:
    def cost_of(rate: float) -> float:
        return cost(replace(plan, sampling_rate=rate))

    if cost_of(1.0) <= plan.epsilon:
        return replace(plan, sampling_rate=1.0)
    high = 1.0
    while cost_of(high / 2.0) > plan.epsilon:
        high /= 2.0
        if high < _LEAST_RATE:
            raise _impossible(plan, "no sampling rate is low enough")
    rate = _last_that_fits(cost_of, high / 2.0, high, plan.epsilon)
    return replace(plan, sampling_rate=rate)


def _last_that_fits(
    cost_of: Callable[[float], float], fits: float, exceeds: float, target: float
) -> float:
    """Where a monotone cost reaches ``target``, approached from the side that fits.

    Costs are close to powers, so that the next guess is interpolated on logarithms; each second
    one halves the bracket, which bounds the number of steps.
    """
    below, above = cost_of(fits), cost_of(exceeds)
    halve = False
    while abs(math.log(exceeds / fits)) > _TOLERANCE and target - below > _TOLERANCE * target:
        share = 0.5
        if not halve and 0.0 < below < above:
            share = (math.log(0.9999 * target / below)) / math.log(above / below)
            share = min(max(share, 0.02), 0.98)
        guess = fits * (exceeds / fits) ** share
        found = cost_of(guess)
        if found <= target:
            fits, below = guess, found
        else:
            exceeds, above = guess, found
        halve = not halve
    return fits


def _impossible(plan: Plan, why: str) -> ValueError:
    return ValueError(f"epsilon={plan.epsilon:g} at delta={plan.delta:g} cannot be solved: {why}")

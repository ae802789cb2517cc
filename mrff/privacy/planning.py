"""Solves for the one of epsilon, noise multiplier, rounds and sampling rate that is not given.

Counted are the rounds, the one test after them and the one sum of items before them. What only
happens is not: rounds that are trained again, other runs on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from mrff.privacy.accounting import Accountant, Release, check_delta, epsilon_of

_TOLERANCE = 5e-4  # relative, of the solved number


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Numbers that belong together; one that is None is to be solved for.

    Args:
        epsilon: of all rounds and the test.
        test_noise: of the one test after the rounds, over what a unit changes; 0: none is counted.
        item_noise: of the one sum of items before the rounds, likewise.
        grid_steps: more than 0: Skellam noise on such a grid, all users in every round.
    """

    epsilon: float | None = None
    delta: float
    noise_multiplier: float | None = None
    rounds: int | None = None
    sampling_rate: float | None = None
    local_steps: int = 1
    accountant: Accountant = "prv"
    test_noise: float = 0.0
    item_noise: float = 0.0
    grid_steps: int = 0

    def rounds_released(self) -> list[Release]:
        """What the rounds release, where nothing is left open."""
        numbers: Any = self  # none of them is None here
        steps = numbers.rounds * numbers.local_steps
        return [self._release(numbers.noise_multiplier, numbers.sampling_rate, steps)]

    def once_released(self) -> list[Release]:
        """What test and sum of items release, where they are counted."""
        return [self._release(noise) for noise in (self.test_noise, self.item_noise) if noise]

    def _release(self, noise: float, sampling_rate: float = 1.0, steps: int = 1) -> Release:
        kind: Literal["skellam", "gaussian"] = "skellam" if self.grid_steps else "gaussian"
        return Release(noise, sampling_rate, steps, kind, self.grid_steps)


class _Search(NamedTuple):
    """Where a number is looked for: from 1 in factors of two, then between two of them."""

    costlier: float  # the factor towards higher costs
    least: float
    most: float
    too_dear: str  # why there is none: the cheapest one costs too much


_SEARCHES = {
    "noise_multiplier": _Search(0.5, 0.05, 1e6, "no noise multiplier is large enough"),
    "rounds": _Search(2.0, 1.0, 1e7, "a single round already costs epsilon {cost_of_one:.4g}"),
    "sampling_rate": _Search(2.0, 5e-8, 1.0, "no sampling rate is low enough"),
}


def solve(wish: Plan) -> Plan:
    """The plan with the one of its four numbers that was left open.

    Solved numbers are on the safe side: the plan's epsilon never exceeds the one asked for.

    Raises:
        ValueError: not exactly one is open, a number is outside its limits, or none fits.
    """
    unknown, target = _unknown_of(wish), wish.epsilon or 0.0

    def with_value(value: float) -> Plan:
        number: Any = int(value) if unknown == "rounds" else value
        return replace(wish, **{unknown: number})

    def cost_of(value: float) -> float:
        plan, once = with_value(value), wish.once_released()
        return epsilon_of(plan.rounds_released() + once, plan.delta, plan.accountant)

    if unknown == "epsilon":
        return with_value(cost_of(0.0))
    once = epsilon_of(wish.once_released(), wish.delta, wish.accountant)
    if once >= target:
        what, key = (
            ("test", "test-noise")
            if not wish.item_noise
            else ("single release of test and items", "test-noise and item-noise")
        )
        why = f"the {what} alone costs epsilon {once:.4g}; raise {key}"
        raise _impossible(wish, why)
    fits, exceeds = _bracket(cost_of, wish, _SEARCHES[unknown])
    if unknown == "rounds":
        fits = _last_whole_that_fits(cost_of, wish, fits, exceeds)
    elif exceeds is not None:
        fits = _last_that_fits(cost_of, fits, exceeds, target)
    return replace(with_value(fits), epsilon=cost_of(fits))


def _unknown_of(wish: Plan) -> str:
    """The number that is left open, where the others are what they may be."""
    check_delta(wish.delta)
    given = {name: getattr(wish, name) for name in ("epsilon", *_SEARCHES)}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) != 1:
        named = ", ".join(missing).replace("_", "-") or "none"
        raise ValueError(
            "leave exactly one of epsilon, noise-multiplier, rounds and sampling-rate out, "
            f"to be solved for; left out: {named}"
        )
    for name, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name.replace('_', '-')} must be greater than 0, got {value}")
    if wish.sampling_rate is not None and wish.sampling_rate > 1.0:
        raise ValueError(f"sampling-rate must be at most 1, got {wish.sampling_rate}")
    if wish.local_steps < 1:
        raise ValueError(f"local-steps must be at least 1, got {wish.local_steps}")
    for name in ("test_noise", "item_noise"):
        if not getattr(wish, name) >= 0.0:
            key = name.replace("_", "-")
            raise ValueError(f"{key} must be at least 0, got {getattr(wish, name)}")
    if wish.grid_steps and (wish.sampling_rate, wish.accountant) != (1.0, "rdp"):
        raise ValueError(
            "grid-steps are of Skellam noise, which is counted with sampling-rate 1 and accountant "
            f"rdp, got {wish.sampling_rate} and {wish.accountant}"
        )
    return missing[0]


def _bracket(
    cost_of: Callable[[float], float], wish: Plan, search: _Search
) -> tuple[float, float | None]:
    """A power of two that fits, and the next costlier one, which does not; None: it may not be."""
    fits, target = 1.0, wish.epsilon or 0.0
    while cost_of(fits) > target:
        fits /= search.costlier
        if not search.least <= fits <= search.most:
            raise _impossible(wish, search.too_dear.format(cost_of_one=cost_of(1.0)))
    exceeds = fits * search.costlier
    while search.least <= exceeds <= search.most:
        if cost_of(exceeds) > target:
            return fits, exceeds
        fits, exceeds = exceeds, exceeds * search.costlier
    return fits, None


def _last_whole_that_fits(
    cost_of: Callable[[float], float], wish: Plan, fits: float, exceeds: float | None
) -> float:
    if exceeds is None:
        most = int(_SEARCHES["rounds"].most)
        raise _impossible(wish, f"more than {most:,} rounds fit; ask for less noise")
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if cost_of(middle) <= (wish.epsilon or 0.0):
            fits = middle
        else:
            exceeds = middle
    return fits


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


def _impossible(wish: Plan, why: str) -> ValueError:
    return ValueError(f"epsilon={wish.epsilon:g} at delta={wish.delta:g} cannot be solved: {why}")

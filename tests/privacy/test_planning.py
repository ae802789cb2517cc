"""Whatever is left open is solved, on the safe side, and an impossible wish is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrff.privacy.accounting import Release, epsilon_of
from mrff.privacy.planning import Plan, solve

KNOWN: dict[str, Any] = {"epsilon": 8.0, "noise_multiplier": 1.08, "rounds": 40}
KNOWN["sampling_rate"] = 0.2


@pytest.mark.parametrize("left_out", sorted(KNOWN))
def test_any_one_of_the_four_is_solved_for(left_out: str) -> None:
    """These four belong together (within a percent), so each follows from the other three."""
    plan = solve(
        Plan(delta=1e-5, **{k: v for k, v in KNOWN.items() if k != left_out}, accountant="rdp")
    )
    assert plan.epsilon == pytest.approx(
        epsilon_of([Release(plan.noise_multiplier, plan.sampling_rate, plan.rounds)], 1e-5, "rdp")
    )
    if left_out != "epsilon":
        assert plan.epsilon <= 8.0
        tighter = {
            "noise_multiplier": {"noise_multiplier": 0.99 * plan.noise_multiplier},
            "rounds": {"rounds": plan.rounds + 1},
            "sampling_rate": {"sampling_rate": 1.01 * plan.sampling_rate},
        }[left_out]
        other = solve(
            Plan(
                delta=1e-5,
                noise_multiplier=tighter.get("noise_multiplier", plan.noise_multiplier),
                rounds=int(tighter.get("rounds", plan.rounds)),
                sampling_rate=tighter.get("sampling_rate", plan.sampling_rate),
                accountant="rdp",
            )
        )
        assert other.epsilon > 8.0  # nothing is left over


def test_prv_finds_less_noise_than_rdp() -> None:
    wish: dict[str, Any] = {"delta": 1e-5, "epsilon": 4.0, "rounds": 20, "sampling_rate": 0.1}
    tight, loose = solve(Plan(**wish)), solve(Plan(**wish, accountant="rdp"))
    assert 0.5 < tight.noise_multiplier < loose.noise_multiplier


def test_skellam_noise_is_planned_for_like_any_other() -> None:
    wish = Plan(delta=1e-5, epsilon=8.0, rounds=60, sampling_rate=1.0, accountant="rdp")
    gaussian, skellam = solve(wish), solve(replace(wish, grid_steps=4096))
    assert gaussian.noise_multiplier <= skellam.noise_multiplier <= 1.01 * gaussian.noise_multiplier
    release = Release(skellam.noise_multiplier, steps=60, mechanism="skellam", grid_steps=4096)
    assert skellam.epsilon == epsilon_of([release], 1e-5, "rdp")
    assert 7.9 < skellam.epsilon <= 8.0


@pytest.mark.parametrize("left_out", sorted(KNOWN))
def test_the_one_test_is_counted_as_a_run_counts_it(left_out: str) -> None:
    """`planned` says of a run what rounds and test cost together: a plan says the same."""
    known = {**KNOWN, "noise_multiplier": 1.1} if left_out == "epsilon" else KNOWN
    wish = {k: v for k, v in known.items() if k != left_out}
    plan = solve(Plan(delta=1e-5, **wish, accountant="rdp", test_noise=4.0))
    rounds = Release(plan.noise_multiplier, plan.sampling_rate, plan.rounds)
    assert plan.epsilon == epsilon_of([rounds, Release(4.0)], 1e-5, "rdp")
    assert plan.epsilon > epsilon_of([rounds], 1e-5, "rdp")
    if left_out != "epsilon":
        assert 7.8 < plan.epsilon <= 8.0


def test_the_test_of_distributed_user_has_skellam_noise() -> None:
    wish = Plan(delta=1e-5, epsilon=8.0, rounds=60, sampling_rate=1.0, accountant="rdp")
    plan = solve(replace(wish, grid_steps=4096, test_noise=4.0))
    releases = [
        Release(noise, steps=steps, mechanism="skellam", grid_steps=4096)
        for noise, steps in ((plan.noise_multiplier, 60), (4.0, 1))
    ]
    assert plan.epsilon == epsilon_of(releases, 1e-5, "rdp")


def test_local_steps_count_like_rounds() -> None:
    one = solve(Plan(delta=1e-5, noise_multiplier=1.0, rounds=10, sampling_rate=0.1, local_steps=5))
    other = solve(Plan(delta=1e-5, noise_multiplier=1.0, rounds=50, sampling_rate=0.1))
    assert one.epsilon == other.epsilon


def test_a_generous_budget_needs_no_sampling() -> None:
    plan = solve(Plan(delta=1e-5, epsilon=1000.0, noise_multiplier=1.0, rounds=5, accountant="rdp"))
    assert plan.sampling_rate == 1.0


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"epsilon": 1.0}, "leave exactly one of"),
        (KNOWN, "left out: none"),
        ({**KNOWN, "epsilon": -1.0, "rounds": None}, "epsilon must be greater than 0, got -1.0"),
        ({**KNOWN, "noise_multiplier": 0.0, "rounds": None}, "noise-multiplier must be greater"),
        ({**KNOWN, "sampling_rate": 1.2, "rounds": None}, "sampling-rate must be at most 1"),
        ({**KNOWN, "epsilon": 0.01, "rounds": None}, "a single round already costs epsilon"),
        (
            {**KNOWN, "epsilon": 0.9, "noise_multiplier": None, "test_noise": 4.0},
            r"epsilon=0.9 .*: the test alone costs epsilon 1\.0\d+; raise test-noise",
        ),
        ({**KNOWN, "rounds": None, "test_noise": -1.0}, "test-noise must be at least 0, got -1"),
        ({**KNOWN, "rounds": None, "local_steps": 0}, "local-steps must be at least 1"),
        ({**KNOWN, "rounds": None, "grid_steps": 9}, "counted with sampling-rate 1 and accountant"),
        ({**KNOWN, "rounds": None, "delta": 2.0}, "delta must be greater than 0 and less than 1"),
    ],
)
def test_impossible_wishes(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(Plan(**{"delta": 1e-5, "accountant": "rdp", **wish}))

"""Canaries in updates: what a sound mechanism shows of them, and that broken ones are refuted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from mrff.experiments.audits.audit import Audit, AuditSetup, audit
from mrff.experiments.audits.bounds import gaussian_epsilon, separation_lower_bound
from mrff.privacy.accounting import Release, epsilon_of
from mrff.privacy.mechanisms import clipping
from mrff.privacy.mechanisms.central_user import CentralServer
from mrff.privacy.noise import Floats, NoiseSource, predictable

ROUNDS = 4
CENTRAL: dict[str, Any] = {  # epsilon 8.01 at delta 1e-5
    "privacy.mode": "central-user", "privacy.noise-multiplier": 1.2, "training.sampling-rate": 1.0,
    "server.num-server-rounds": ROUNDS, "network.feature-dim": 4, "privacy.delta": 1e-5,
}  # fmt: skip
SECURE: dict[str, Any] = {
    "privacy.mode": "distributed-user", "privacy.secure-aggregation": True,
    "privacy.accountant": "rdp", "privacy.noise-multiplier": 1.277,
}  # fmt: skip
SOUND: dict[str, dict[str, Any]] = {
    "every user every round": {},
    "weighted arrays": {"privacy.clipping-weights": "item_features=20,head=0.1"},
    "noise from the nodes": SECURE,
    "half of the users": {"training.sampling-rate": 0.5, "privacy.noise-multiplier": 0.88},
}


def audited(data: Path, more: dict[str, Any], *, noise: bool = True) -> Audit:
    """An audit whose coins and noise are the same each time."""
    with predictable(7):
        return audit(data, CENTRAL | more, AuditSetup(canaries=1000, users=0, noise=noise))


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_mechanism_shows_epsilon_above_one_and_never_above_the_claim(
    small_data: Path, kind: str
) -> None:
    found = audited(small_data, SOUND[kind])
    assert found.claimed == pytest.approx(8.0, rel=0.02)
    assert found.if_gaussian is not None
    assert 1.0 < found.by_rounds.epsilon < found.claimed
    assert 1.0 < found.if_gaussian < found.claimed
    assert not found.refuted


def clip_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(norms: Tensor, bound: float, finite: Tensor) -> Tensor:
        return finite.to(norms)

    monkeypatch.setattr(clipping, "clip_factors", ones)


def noise_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    gaussian = NoiseSource.gaussian

    def half(source: NoiseSource, shape: tuple[int, ...], deviation: float) -> Floats:
        return gaussian(source, shape, deviation / 2.0)

    monkeypatch.setattr(NoiseSource, "gaussian", half)


def noise_used_twice(first: int, second: int) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        source = CentralServer.source

        def again(server: CentralServer, server_round: int) -> NoiseSource:
            return source(server, first if server_round == second else server_round)

        monkeypatch.setattr(CentralServer, "source", again)

    return broken


@pytest.mark.parametrize(
    "broken",
    [clip_forgotten, noise_halved, noise_used_twice(1, 2), noise_used_twice(2, 4)],
    ids=["clip forgotten", "noise halved", "rounds 1 and 2 alike", "rounds 2 and 4 alike"],
)
def test_a_broken_mechanism_is_refuted(
    small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
) -> None:
    broken(monkeypatch)
    found = audited(small_data, {})
    assert found.claimed == pytest.approx(8.0, rel=0.02)
    assert found.refuted


@pytest.mark.parametrize("kind", ["every user every round", "noise from the nodes"])
def test_noise_that_is_forgotten_is_refuted(small_data: Path, kind: str) -> None:
    found = audited(small_data, SOUND[kind], noise=False)
    assert found.by_rounds.right == found.by_rounds.guesses >= 200
    assert found.refuted


def test_strong_privacy_shows_nothing(small_data: Path) -> None:
    found = audited(small_data, {"privacy.noise-multiplier": 40.0})
    assert found.claimed is not None
    assert found.epsilon < found.claimed < 0.3


def test_rounds_in_which_nobody_was_drawn_are_noise_and_show_nothing(small_data: Path) -> None:
    nobody = {"training.sampling-rate": 1e-6, "server.num-server-rounds": 2}
    with predictable(7):
        found = audit(small_data, CENTRAL | nobody, AuditSetup(canaries=10, users=0))
    assert found.epsilon < 0.5


def test_scores_that_are_apart_are_as_far_apart_as_their_number_can_show() -> None:
    """No error among 100 and 100: each rate is at most 1 - (0.05 / 6)**(1/100) = 0.0468."""
    included = np.arange(200) < 100
    bound = separation_lower_bound(included * 9.0, included, confidence=0.95)
    assert bound == pytest.approx(2 * 1.677, abs=0.01)
    assert separation_lower_bound(~included * 9.0, included, confidence=0.95) == 0.0
    assert separation_lower_bound(np.zeros(9), np.ones(9, bool), confidence=0.95) == 0.0


def test_the_separation_of_two_gaussians_is_not_overestimated_and_nearly_reached() -> None:
    random, bounds = np.random.default_rng(3), []
    for _ in range(40):
        included = random.random(1000) < 0.5
        scores = 1.5 * included + random.normal(size=1000)
        bounds.append(separation_lower_bound(scores, included, confidence=0.95))
    assert sum(bound > 1.5 for bound in bounds) <= 4  # at most 2 expected
    assert np.median(bounds) > 1.1


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.6642, 4.0])
def test_epsilon_of_a_gaussian_is_exact(mu: float) -> None:
    exact = gaussian_epsilon(mu, 1e-5)
    assert exact <= epsilon_of([Release(1.0 / mu)], 1e-5) < 1.01 * exact + 1e-3


def test_delta_may_pay_for_everything() -> None:
    """At epsilon 0 delta is the total variation, 2 Phi(1/2) - 1 = 0.3829."""
    assert gaussian_epsilon(1.0, 0.383) == 0.0
    assert 0.0 < gaussian_epsilon(1.0, 0.382) < 0.01
    assert gaussian_epsilon(0.0, 1e-5) == 0.0

"""``mrff privacy audit``: trains once with canaries and guesses from releases who was there.

A canary is a made-up user whose few interactions are all with an item that nobody else has. Only
they can move that item's embedding, so the embedding's row is where to look for them. Whoever looks
knows everything but the coins: the model of every round, the canaries' histories, the mechanism.

Two lookers: one sees what is released in every round (the uploads of the node in local-dp-sgd and
laplace, the server's noisy means in central-user, its exact means without privacy), the other the
final model only. Training is that of a run: the same mechanism or trainer, aggregation, noise and
server optimiser. Without privacy nothing is claimed, and the bounds say what an attacker learns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import load_dataset, take_users
from mrff.data.windows import eligible_users
from mrff.experiments.audits.bounds import Guesses, bound_of_scores
from mrff.experiments.audits.canaries import plant
from mrff.experiments.audits.training import train_and_watch
from mrff.privacy.accounting import epsilon_of
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.noise import NoiseSource
from mrff.privacy.spending import limit_of

DEFAULTS: dict[str, Any] = {"server.num-server-rounds": 10, "training.sampling-rate": 0.5}
FORGOTTEN = "The noise was switched off on purpose."


@dataclass(frozen=True)
class AuditSetup:
    """What an audit is made of.

    Args:
        users: real ones, beside the ``canaries``.
        confidence: of the bounds.
        seed: of the choice of users; the canaries' coins are secret until the end.
        noise: False plants the bug of a mechanism that forgets its noise.
    """

    canaries: int
    users: int
    confidence: float = 0.95
    seed: int = 0
    noise: bool = True


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    ``claimed`` is the accountant's epsilon for the same training; None: nothing is claimed.
    """

    mode: str
    noise: bool
    claimed: float | None
    delta: float
    confidence: float
    canaries: int
    by_rounds: Guesses
    by_model: Guesses

    @property
    def refuted(self) -> bool:
        """Whether the claim is shown to be false."""
        if self.claimed is None:
            return False
        return max(self.by_rounds.epsilon, self.by_model.epsilon) > self.claimed

    def numbers(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "refuted": self.refuted}

    def sentences(self) -> list[str]:
        """For people."""
        found = [
            f"Who sees {what}: {guesses.right} of {guesses.guesses} guesses right, so epsilon is "
            f"at least {guesses.epsilon:.3f}."
            for what, guesses in (
                ("every round's release", self.by_rounds),
                ("the final model only", self.by_model),
            )
        ]
        return [
            f"Audit of privacy.mode={self.mode} with {self.canaries} canaries, delta "
            f"{self.delta:g}, confidence {self.confidence:.0%} (Steinke, Nasr and Jagielski 2023).",
            *([] if self.noise or self.claimed is None else [FORGOTTEN]),
            *found,
            *self._verdict(),
        ]

    def _verdict(self) -> list[str]:
        if self.claimed is None:
            return [
                "There is no claim to check: without privacy no epsilon is promised, and this is "
                "what an attacker learns.",
                "More canaries may show more.",
            ]
        return [
            f"REFUTED: the mechanism does not keep the claimed epsilon {self.claimed:.3f}."
            if self.refuted
            else f"Not refuted: both are below the claimed epsilon {self.claimed:.3f}.",
            "A lower bound far below the claim proves nothing: stronger attacks may exist.",
        ]


def audit(folder: Path, settings: Mapping[str, Any], setup: AuditSetup) -> Audit:
    """Trains on users of a prepared folder with canaries more, each there or not.

    Args:
        settings: of the run, in kebab-case.

    Raises:
        ConfigError: too few canaries, items no feature tells apart, items that are not shared, or
            noise to be switched off where there is none.
    """
    if setup.canaries < 10:
        raise ConfigError(f"canaries must be at least 10, got {setup.canaries}")
    with tempfile.TemporaryDirectory() as home:  # the ledgers of an audit are its own
        own = {"data.data-dir": str(folder), "data.home": home, "privacy.epsilon-budget": "off"}
        config = RunConfig.from_flat({**DEFAULTS, **settings, **own})
        _check(config, setup.noise)
        dataset, holdout = load_dataset(folder), config.data.holdout
        config = config.for_data(dataset.schema.kind)
        rows = eligible_users(dataset, holdout=holdout)
        chosen = np.random.default_rng(setup.seed).permutation(rows)[: setup.users]
        planted = plant(take_users(dataset, np.sort(chosen)), setup.canaries, holdout=holdout)
        included = NoiseSource().coins(setup.canaries, 0.5)
        seen = train_and_watch(config, planted, included, noise=setup.noise)
    privacy = config.privacy
    by_rounds, by_model = (
        bound_of_scores(scores, included, delta=privacy.delta, confidence=setup.confidence)
        for scores in (seen.scores_of_rounds(), seen.scores_of_model())
    )
    return Audit(
        mode=privacy.mode,
        noise=setup.noise and privacy.is_private,
        claimed=_claim(config),
        delta=privacy.delta,
        confidence=setup.confidence,
        canaries=setup.canaries,
        by_rounds=by_rounds,
        by_model=by_model,
    )


def _check(config: RunConfig, noise: bool) -> None:
    network = config.network
    if config.privacy.mode == "distributed-user":
        raise ConfigError(
            "an audit trains one node without a secure sum, which privacy.mode=distributed-user "
            "needs; audit central-user, whose sum and noise are the same but for the grid"
        )
    if not noise and not config.privacy.is_private:
        raise ConfigError(
            "there is no noise to switch off in privacy.mode=none; choose a private mode, or audit "
            "without --without-noise"
        )
    if network.clusters or network.private_parameters == "all":
        raise ConfigError(
            "an audit looks for canaries in the items' embeddings, which all users share: use "
            f"clusters=off, got {network.clusters}, and private-parameters=user or head, got "
            f"{network.private_parameters}"
        )


def _claim(config: RunConfig) -> float | None:
    release = mechanism_of(config).release(config)
    if release is None:
        return None
    limit, rounds = limit_of(config.privacy), config.server.num_server_rounds
    return epsilon_of([release.times(rounds)], limit.delta, limit.accountant)

"""``mrff privacy audit``: one run with canaries, and guesses from releases who was there.

Canaries in *updates* are users whose update is a random direction, as long as clipping lets it be:
the strongest there can be. They go through the mechanism alone, without training.

A canary in *data* is a made-up user whose few interactions are all with an item that nobody else
has. Only they can move that item's embedding, so its row is where to look for them. One looker sees
what is released in every round (the uploads of the node in local-dp-sgd and laplace, the server's
noisy means in central-user, its exact means without privacy), the other the final model only.
Training is that of a run: the same mechanism or trainer, aggregation, noise and server optimiser.
Without privacy nothing is claimed, and the bounds say what an attacker learns.

Whoever looks knows everything but the coins: models, directions, histories, the mechanism.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset, load_dataset, take_users
from mrff.data.windows import eligible_users
from mrff.experiments.audits.bounds import (
    Guesses,
    bound_of_scores,
    gaussian_epsilon,
    separation_lower_bound,
)
from mrff.experiments.audits.canaries import plant
from mrff.experiments.audits.directions import scores_of_updates
from mrff.experiments.audits.training import train_and_watch
from mrff.privacy.accounting import epsilon_of
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.noise import NoiseSource
from mrff.privacy.spending import limit_of

DEFAULTS: dict[str, Any] = {"server.num-server-rounds": 10, "training.sampling-rate": 0.5}
CanariesIn = Literal["updates", "data"]
IN_UPDATES = ("central-user", "distributed-user")  # one whole update a user, Gaussian noise or like
FORGOTTEN = "The noise was switched off on purpose."


@dataclass(frozen=True)
class AuditSetup:
    """What an audit is made of.

    Args:
        users: real ones, beside the ``canaries`` in data.
        confidence: of the bounds.
        seed: of the choice of users; the canaries' coins are secret until the end.
        noise: False plants the bug of a mechanism that forgets its noise.
    """

    canaries: int
    users: int
    confidence: float = 0.95
    seed: int = 0
    noise: bool = True
    canaries_in: CanariesIn = "updates"


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    ``claimed`` is the accountant's epsilon for the same training; None: nothing is claimed.
    ``if_gaussian``: a closer bound, for Gaussian noise and canaries independent of each other.
    """

    mode: str
    noise: bool
    claimed: float | None
    delta: float
    confidence: float
    canaries: int
    by_rounds: Guesses
    by_model: Guesses | None  # None with ``if_gaussian``: canaries were in updates
    if_gaussian: float | None

    @property
    def epsilon(self) -> float:
        """The highest lower bound."""
        by_model = 0.0 if self.by_model is None else self.by_model.epsilon
        return max(self.by_rounds.epsilon, by_model, self.if_gaussian or 0.0)

    @property
    def refuted(self) -> bool:
        """Whether the claim is shown to be false."""
        return self.claimed is not None and self.epsilon > self.claimed

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
            if guesses is not None
        ]
        if self.if_gaussian is not None:
            found.append(
                "If the noise is Gaussian and canaries do not depend on each other, epsilon is at "
                f"least {self.if_gaussian:.3f} (Andrew et al. 2024)."
            )
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
            else f"Not refuted: all is below the claimed epsilon {self.claimed:.3f}.",
            "A lower bound far below the claim proves nothing: stronger attacks may exist.",
        ]


def audit(folder: Path, settings: Mapping[str, Any], setup: AuditSetup) -> Audit:
    """Runs a mechanism on canaries, alone or in a training on users of a prepared folder.

    Args:
        settings: of the run, in kebab-case.

    Raises:
        ConfigError: too few canaries, canaries that the mode cannot have, items no feature tells
            apart, items that have no row of their own or are not shared, or noise to be switched
            off where there is none.
    """
    if setup.canaries < 10:
        raise ConfigError(f"canaries must be at least 10, got {setup.canaries}")
    with tempfile.TemporaryDirectory() as home:  # the ledgers of an audit are its own
        own = {"data.data-dir": str(folder), "data.home": home, "privacy.epsilon-budget": "off"}
        config = RunConfig.from_flat({**DEFAULTS, **settings, **own})
        _check(config, setup)
        included = NoiseSource().coins(setup.canaries, 0.5)
        dataset = load_dataset(folder, config.times_read)
        config = config.for_data(dataset.schema.kind)
        if setup.canaries_in == "updates":
            scores = [scores_of_updates(config, dataset, included, noise=setup.noise)]
        else:
            scores = _scores_of_data(config, dataset, included, setup)
    delta, confidence = config.privacy.delta, 1.0 - (1.0 - setup.confidence) / 2.0  # two bounds
    bounds = [bound_of_scores(s, included, delta=delta, confidence=confidence) for s in scores]
    by_model, if_gaussian = bounds[1] if len(bounds) > 1 else None, None
    if by_model is None:
        mu = separation_lower_bound(scores[0], included, confidence=confidence)
        if_gaussian = gaussian_epsilon(mu, delta)
    return Audit(
        mode=config.privacy.mode,
        noise=setup.noise and config.privacy.is_private,
        claimed=_claim(config),
        delta=delta,
        confidence=setup.confidence,
        canaries=setup.canaries,
        by_rounds=bounds[0],
        by_model=by_model,
        if_gaussian=if_gaussian,
    )


def _scores_of_data(
    config: RunConfig, dataset: Dataset, included: NDArray[np.bool_], setup: AuditSetup
) -> list[NDArray[np.float64]]:
    """Those of who sees every round, and of who sees the final model, (m,) each."""
    rows = eligible_users(dataset, holdout=config.data.holdout)
    chosen = np.random.default_rng(setup.seed).permutation(rows)[: setup.users]
    real = take_users(dataset, np.sort(chosen))
    planted = plant(real, setup.canaries, holdout=config.data.holdout)
    seen = train_and_watch(config, planted, included, noise=setup.noise)
    return [seen.scores_of_rounds(), seen.scores_of_model()]


def _check(config: RunConfig, setup: AuditSetup) -> None:
    network, mode = config.network, config.privacy.mode
    if setup.canaries_in == "data" and mode == "distributed-user":
        raise ConfigError(
            "an audit with canaries in data trains one node without a secure sum, which "
            "privacy.mode=distributed-user needs; use --canaries-in updates"
        )
    mechanism_of(config)
    if setup.canaries_in == "updates" and mode not in IN_UPDATES:
        raise ConfigError(
            f"canaries in updates need privacy.mode={' or '.join(IN_UPDATES)}, where a user is one "
            f"clipped update, got {mode}; use --canaries-in data"
        )
    if not setup.noise and not config.privacy.is_private:
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
    if setup.canaries_in == "data" and network.item_ids != "full":
        raise ConfigError(
            "an audit looks for canaries in rows of their own items, which "
            f"network.item-ids={network.item_ids} does not give them; use network.item-ids=full"
        )


def _claim(config: RunConfig) -> float | None:
    release = mechanism_of(config).release(config)
    if release is None:
        return None
    limit, rounds = limit_of(config.privacy), config.server.num_server_rounds
    return epsilon_of([release.times(rounds)], limit.delta, limit.accountant)

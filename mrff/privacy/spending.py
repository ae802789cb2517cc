"""Budgets: what a run may cost, and what nodes and servers note before anything is released."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrff.config import ConfigError, PrivacySettings
from mrff.privacy.accounting import (
    Accountant,
    Limit,
    Release,
    check_delta,
    epsilon_of,
    pure_epsilon,
)
from mrff.privacy.noise import is_predictable
from mrff.sums import NodeView, ServerView

if TYPE_CHECKING:
    from mrff.privacy.ledger import Ledger

WHOLE_DATASET = [0]  # the server's ledger counts for every user alike
log = getLogger("flwr")


def limit_of(privacy: PrivacySettings) -> Limit:
    """What the configuration allows to be spent."""
    accountant: Accountant = "rdp" if privacy.accountant == "rdp" else "prv"
    return Limit(privacy.epsilon_budget or 0.0, privacy.delta, accountant)


class NodeBudget:
    """A node's budget of every single user, over rounds, runs and restarts.

    The node's own limits win over the run's: a server cannot raise them.
    """

    def __init__(self, view: NodeView) -> None:
        from mrff.privacy.ledger import Ledger  # brings SQLite and locks: not in mode none

        self._view = view
        run = limit_of(view.config.privacy)
        own_budget, own_delta = (
            float(view.limits.get(key, 0.0)) for key in ("epsilon-budget", "delta")
        )
        budgets = [budget for budget in (own_budget, run.epsilon) if budget > 0.0]
        delta = min(own_delta, run.delta) if own_delta > 0.0 else run.delta
        limit = Limit(min(budgets, default=0.0), delta, run.accountant)
        self._limit = limit
        folder, unit = view.ledger_folder / "privacy", view.config.privacy.unit
        self._ledger = Ledger(folder, view.population, unit)

    def spend(self, users: np.ndarray, release: Release) -> None:
        """Notes ``release`` of ``users`` (U,) uint64 keys.

        Raises:
            BudgetExceededError: a user's budget would be exceeded.
            LedgerError: the ledger cannot be trusted or written.
        """
        view = self._view
        about = {"training": view.training, "round": view.round_number}
        self._ledger.append(users, release, about, self._limit)


class RunBudget:
    """The server's budget of everybody, over all models trained on a population.

    Raises:
        LedgerError: the ledger cannot be trusted.
    """

    def __init__(self, view: ServerView, release: Release) -> None:
        self._view, self._release = view, release
        self._limit = limit_of(view.config.privacy)
        self._ledger = server_ledger(view.ledger_folder, view.population)

    def spend(self, server_round: int) -> float:
        """Notes a round; returns epsilon with it.

        Raises:
            BudgetExceededError: the budget does not allow it; nothing was noted.
        """
        ledger, release, limit = self._ledger, self._release, self._limit
        ledger.check(WHOLE_DATASET, release, limit)
        about = {"training": self._view.training, "round": server_round}
        ledger.append(WHOLE_DATASET, release, about, limit)
        return ledger.epsilon(WHOLE_DATASET, limit)


def server_ledger(folder: Path, population: str) -> Ledger:
    """The ledger of what models trained on this population have let out, whatever the run.

    Raises:
        LedgerError: it cannot be trusted.
    """
    from mrff.privacy.ledger import Ledger  # brings SQLite and locks: not in mode none

    ledger = Ledger(folder / "privacy-server", population, "user")
    ledger.users()  # checks it
    return ledger


def planned(view: ServerView, release: Release) -> None:
    """Says what the run will cost, and refuses what cannot be kept from the first round on.

    Raises:
        ConfigError: delta or budget.
    """
    config, privacy = view.config, view.config.privacy
    limit = limit_of(privacy)
    try:
        check_delta(privacy.delta, view.units)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rounds = config.server.num_server_rounds
    one, whole = (
        epsilon_of([release.times(n)], limit.delta, limit.accountant) for n in (1, rounds)
    )
    if 0.0 < limit.epsilon < one:
        raise ConfigError(
            f"epsilon-budget={limit.epsilon:g} is impossible: one round costs epsilon {one:.4g} at "
            f"delta={limit.delta:g}; raise noise-multiplier (mrff privacy plan solves for it)"
        )
    log.info(
        "privacy: %s, unit %s; %d rounds cost epsilon %.4g at delta %g by %s",
        privacy.mode, privacy.unit, rounds, whole, limit.delta, limit.accountant,
    )  # fmt: skip
    if release.mechanism == "laplace":
        log.info("privacy: pure epsilon of them all %.4g", pure_epsilon([release.times(rounds)]))
    if 0.0 < limit.epsilon < whole:
        log.warning("privacy: more than epsilon-budget=%g: training ends early", limit.epsilon)
    if is_predictable():
        log.warning("privacy: a test makes the noise predictable: NOT PRIVATE")

"""Budgets: what a run may cost, and what nodes and servers note before anything is released."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

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
from mrff.privacy.ledger import Ledger
from mrff.privacy.noise import is_predictable
from mrff.sums import NodeView, ServerView

WHOLE_DATASET = [0]  # the server's ledger counts for every user alike
log = getLogger("flwr")


def limit_of(privacy: PrivacySettings) -> Limit:
    """What the configuration allows to be spent."""
    accountant: Accountant = "rdp" if privacy.accountant == "rdp" else "prv"
    return Limit(privacy.epsilon_budget or 0.0, privacy.delta, accountant)


def spend_on_node(view: NodeView, users: np.ndarray, release: Release) -> None:
    """Notes ``release`` of ``users`` (U,) uint64 keys, each with a budget over runs and restarts.

    The node's own limits win over the run's: a server cannot raise them.

    Raises:
        BudgetExceededError: a user's budget would be exceeded.
        LedgerError: the ledger cannot be trusted or written.
    """
    run = limit_of(view.config.privacy)
    own_budget, own_delta = (
        float(view.limits.get(key, 0.0)) for key in ("epsilon-budget", "delta")
    )
    budgets = [budget for budget in (own_budget, run.epsilon) if budget > 0.0]
    delta = min(own_delta, run.delta) if own_delta > 0.0 else run.delta
    limit = Limit(min(budgets, default=0.0), delta, run.accountant)
    ledger = Ledger(view.ledger_folder / "privacy", view.population, view.config.privacy.unit)
    about = {"training": view.training, "round": view.round_number}
    ledger.append(users, release, about, limit)


def server_ledger(folder: Path, population: str) -> Ledger:
    """The ledger of what models trained on this population have let out, whatever the run.

    Raises:
        LedgerError: it cannot be trusted.
    """
    ledger = Ledger(folder / "privacy-server", population, "user")
    ledger.users()  # checks it
    return ledger


def planned(view: ServerView, release: Release, test: Release) -> None:
    """Says what the run will cost, and refuses what cannot be kept from the first round on.

    Args:
        release: of each round.
        test: of the one test after them.

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
    one, training, whole = (
        epsilon_of(releases, limit.delta, limit.accountant)
        for releases in ([release], [release.times(rounds)], [release.times(rounds), test])
    )
    if 0.0 < limit.epsilon < one:
        raise ConfigError(
            f"epsilon-budget={limit.epsilon:g} is impossible: one round costs epsilon {one:.4g} at "
            f"delta={limit.delta:g}; raise noise-multiplier (mrff privacy plan solves for it)"
        )
    log.info(
        "privacy: %s, unit %s; %d rounds cost epsilon %.4g at delta %g by %s, with the test %.4g",
        privacy.mode, privacy.unit, rounds, training, limit.delta, limit.accountant, whole,
    )  # fmt: skip
    if release.mechanism == "laplace":
        log.info("privacy: pure epsilon of them all %.4g", pure_epsilon([release.times(rounds)]))
    if 0.0 < limit.epsilon < whole:
        log.warning(
            "privacy: more than epsilon-budget=%g: training ends early, or the test is left out",
            limit.epsilon,
        )
    if is_predictable():
        log.warning("privacy: a test makes the noise predictable: NOT PRIVATE")

"""Budgets: what a run may cost, and what nodes and servers note before anything is released."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
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
from mrff.privacy.chains import UNKNOWN
from mrff.privacy.ledger import BudgetExceededError, Ledger
from mrff.privacy.noise import is_predictable
from mrff.sums import NodeView, ServerView

WHOLE_DATASET = [0]  # the server's ledger counts for every user alike
OWN_DELTA = 1e-5  # of a node's own budget, where it names none; what runs have by default
WINDOWS_MOVE = (
    "one interaction more can change all windows of its user, since they are cut from the end of "
    "their history: what is protected is a window as it was cut, not an interaction"
)
log = getLogger("flwr")


def limit_of(privacy: PrivacySettings) -> Limit:
    """What the configuration allows to be spent."""
    accountant: Accountant = "rdp" if privacy.accountant == "rdp" else "prv"
    return Limit(privacy.epsilon_budget or 0.0, privacy.delta, accountant)


def spend_on_node(view: NodeView, users: np.ndarray, release: Release) -> None:
    """Notes ``release`` of ``users`` (U,) uint64 keys, each with a budget over runs and restarts.

    Raises:
        BudgetExceededError: a user's budget would be exceeded, or cannot be told.
        ConfigError: the node's own limits cannot be read.
        LedgerError: the ledger cannot be trusted or written.
    """
    unit, limit = view.config.privacy.unit, limit_on_node(view)
    ledger = Ledger(view.ledger_folder / "privacy", view.population, unit)
    if limit.epsilon > 0.0:
        _refuse_other_units(ledger, users, limit, unit)
    about = {"training": view.training, "round": view.round_number}
    ledger.append(users, as_made(release), about, limit)


def _refuse_other_units(ledger: Ledger, users: np.ndarray, limit: Limit, unit: str) -> None:
    """A server that changes the unit from run to run would get a budget for each."""
    for other in ledger.units_apart(users):
        if other != UNKNOWN:
            raise BudgetExceededError(
                f"epsilon-budget={limit.epsilon:g} cannot be kept with privacy.unit={unit}: the "
                f"same users have releases of unit {other}, and different units do not add up; "
                f"use privacy.unit={other}, or start without epsilon-budget"
            )


def limit_on_node(view: NodeView) -> Limit:
    """What may be spent of a node's users: its own limits win over the run's.

    A budget says nothing without its delta, and a run may name one of 0.49. A node that names none
    of its own takes `OWN_DELTA` at most: it does not know how many users the whole dataset has.

    Raises:
        ConfigError: the node's own limits are no numbers, or outside their limits.
    """
    run, own = limit_of(view.config.privacy), own_budget(view)
    delta = _own(view, "delta", 1.0) or (OWN_DELTA if own else run.delta)
    budgets = [budget for budget in (own, run.epsilon) if budget]
    return Limit(min(budgets, default=0.0), min(delta, run.delta), run.accountant)


def own_budget(view: NodeView) -> float:
    """The node's own ``epsilon-budget``; 0: it has none.

    Raises:
        ConfigError: it is no number above 0.
    """
    return _own(view, "epsilon-budget", math.inf)


def _own(view: NodeView, key: str, below: float) -> float:
    """A limit from ``--node-config``; 0 where it is not there."""
    if key not in view.limits:
        return 0.0
    try:
        value = float(view.limits[key])
    except ValueError:
        value = math.nan
    if not 0.0 < value < below:
        most = "" if math.isinf(below) else f" and less than {below:g}"
        raise ConfigError(
            f"this node's {key} must be greater than 0{most}, got {view.limits[key]!r}; "
            "mend its --node-config, or leave it out"
        )
    return value


def server_ledger(folder: Path, population: str | Sequence[str], unit: str = "user") -> Ledger:
    """The ledger of what models trained on this population have let out, whatever the run.

    Raises:
        LedgerError: it cannot be trusted.
    """
    ledger = Ledger(folder / "privacy-server", population, unit)
    ledger.users()  # checks it
    return ledger


def as_made(release: Release) -> Release:
    """``release`` as it is noted: marked where a test makes its noise predictable."""
    return replace(release, predictable=is_predictable())


def planned(view: ServerView, release: Release, once: Sequence[Release]) -> None:
    """Says what the run will cost, and refuses what cannot be kept from the first round on.

    Args:
        release: of each round.
        once: what is released beside them: of items before them, the test after them.

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
        for releases in ([release], [release.times(rounds)], [release.times(rounds), *once])
    )
    if 0.0 < limit.epsilon < one:
        raise ConfigError(
            f"epsilon-budget={limit.epsilon:g} is impossible: one round costs epsilon {one:.4g} at "
            f"delta={limit.delta:g}; raise noise-multiplier (mrff privacy plan solves for it)"
        )
    log.info(
        "privacy: %s, unit %s; %d rounds cost epsilon %.4g at delta %g by %s, with %s %.4g",
        privacy.mode, privacy.unit, rounds, training, limit.delta, limit.accountant,
        "item statistics and the test" if config.reads_item_statistics else "the test", whole,
    )  # fmt: skip
    if release.mechanism == "laplace":
        log.info("privacy: pure epsilon of them all %.4g", pure_epsilon([release.times(rounds)]))
    if privacy.unit == "record":
        log.info("privacy: unit record: %s", WINDOWS_MOVE)
    if 0.0 < limit.epsilon < whole:
        log.warning(
            "privacy: more than epsilon-budget=%g: training ends early, or the test is left out",
            limit.epsilon,
        )
    if is_predictable():
        log.warning("privacy: a test makes the noise predictable: NOT PRIVATE, no epsilon holds")

"""What a run promises: unit, adversary, epsilon, delta, and what no guarantee covers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mrff.config import RunConfig
from mrff.data.dataset import load_catalogue
from mrff.data.schema import SCHEMA_FILE
from mrff.ops.trained_run import RunError, find_run, read_json
from mrff.privacy.accounting import Release, epsilon_of, pure_epsilon
from mrff.privacy.chains import UNKNOWN, History
from mrff.privacy.ledger import Ledger
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.spending import WHOLE_DATASET, WINDOWS_MOVE, limit_of, server_ledger
from mrff.privacy.whole_run import once, whole_run
from server_app.run.history import read_history

PREDICTABLE = "a test made the noise predictable, and whoever knows how subtracts it"


@dataclass(frozen=True)
class Spent:
    """What ledgers on this machine know."""

    run: History = ()  # of the run, rounds that were done again included
    epsilon: float | None = None  # over all runs on this data; None: no ledger is at hand
    units_apart: tuple[str, ...] = ()  # other units with releases, and unknown ones


@dataclass(frozen=True)
class Report:
    """What is known of a run."""

    name: str
    config: RunConfig
    rounds: int  # done
    release: Release | None  # one round's; None in mode none
    spent: Spent
    snr: list[float]
    once: History = ()  # the test in the history, and what was asked before the first round

    @property
    def released(self) -> History:
        """By this run, of a unit that took part in every round, each time that it was trained.

        The history has a round once; it stands in where no ledger has the run.
        """
        if self.release is None:
            return ()
        return whole_run(self.release.times(self.rounds), self.spent.run, self.once)

    @property
    def epsilon(self) -> float:
        """Of this run alone; infinite where its noise was predictable."""
        limit = limit_of(self.config.privacy)
        return epsilon_of(self.released, limit.delta, limit.accountant)

    def numbers(self) -> dict[str, Any]:
        """For programs. ``epsilon`` is null in mode none, where there is no bound."""
        privacy, release = self.config.privacy, self.release
        return {
            "run": self.name,
            "privacy_mode": privacy.mode,
            "unit": privacy.unit if privacy.is_private else None,
            "private": privacy.is_private,
            "rounds": self.rounds,
            "epsilon": _finite(self.epsilon) if release else None,
            "epsilon_of_all_runs": _finite(self.spent.epsilon),
            "predictable_noise": any(part.predictable for part in self.released),
            "units_not_added": list(self.spent.units_apart),
            "delta": privacy.delta if release else None,
            "accountant": privacy.accountant if release else None,
            "noise_multiplier": release.noise_multiplier if release else None,
            "sampling_rate": release.sampling_rate if release else None,
        }

    def sentences(self) -> Iterator[str]:
        """For people."""
        privacy, release = self.config.privacy, self.release
        if release is None:
            yield (
                f"Run {self.name} was trained with privacy.mode=none: no differential privacy. "
                "Epsilon is unbounded."
            )
            yield (
                "Users' own parameters and their interactions did not leave the nodes; sums of "
                "updates and of losses did, as they were."
            )
            return
        mechanism = mechanism_of(self.config)
        yield f"Run {self.name}: {self.rounds} rounds in privacy.mode={privacy.mode}."
        yield f"Protected is one {privacy.unit} (there or not there)."
        if privacy.unit == "record":
            yield f"A record is a window: {WINDOWS_MOVE}."
        yield f"Not trusted: {mechanism.not_trusted}."
        yield f"The guarantee covers {mechanism.covers}."
        yield from self._cost(release)
        if self.snr:
            low, high, last = min(self.snr), max(self.snr), self.snr[-1]
            yield f"Signal to noise of a round's sum: {low:.2f} to {high:.2f}, last {last:.2f}."
        yield (
            "Covered as well: the one evaluation, a noised test of the last model. Not covered: "
            "how many users and records there are, who is connected, and timing."
        )
        yield (
            "Predictions shown to a user come from parameters of the user's own, which stay on the "
            "user's node."
        )
        if release.sampling_rate < 1.0:
            unit = "users" if privacy.mode == "central-user" else "records"
            yield f"Amplification by sampling is counted: {unit} are Poisson-sampled."

    def _cost(self, release: Release) -> Iterator[str]:
        privacy, is_laplace = self.config.privacy, release.mechanism == "laplace"
        noise = "Laplace noise of scale" if is_laplace else f"{release.mechanism.title()} noise of"
        steps = f", {release.steps} steps a round" if release.steps > 1 else ""
        if math.isinf(self.epsilon):
            yield f"NOT PRIVATE: {PREDICTABLE}."
        yield (
            f"Epsilon {self.epsilon:.4f} at delta {privacy.delta:g}, accountant "
            f"{privacy.accountant}: {noise} {release.noise_multiplier:g} times the clipping norm, "
            f"sampling rate {release.sampling_rate:g}{steps}."
        )
        sums = sum(part.steps for part in self.released)
        if sums != release.steps * self.rounds:
            items = ", and so is the sum of items" if self.config.reads_item_statistics else ""
            yield (
                f"It is of {sums} noisy sums: rounds that were trained again after a stop count "
                f"each time, and the test is one{items}."
            )
        if is_laplace:
            rounds = [part for part in self.released if part.mechanism == "laplace"]
            yield f"Pure epsilon (delta 0): {pure_epsilon(rounds):.4f}, without the test."
        yield from self._together()
        if privacy.epsilon_budget:
            yield f"Budget: epsilon {privacy.epsilon_budget:g}; a round beyond it is refused."

    def _together(self) -> Iterator[str]:
        """What all runs cost together, as far as this machine knows."""
        spent = self.spent
        if spent.epsilon is None:
            yield (
                "The nodes' ledgers are not on this machine: what other runs on the same data "
                "cost is known to the nodes only."
            )
        else:
            why = f": {PREDICTABLE}" if math.isinf(spent.epsilon) else ""
            together = f"epsilon {spent.epsilon:.4f}{why}"
            yield f"With all other runs on the same data (ledger): {together}."
        for unit in spent.units_apart:
            yield (
                "Releases of an earlier version are in it, which did not note their unit: counted "
                f"as if it were {self.config.privacy.unit}."
                if unit == UNKNOWN
                else f"Releases of unit {unit} are noted besides; units are never added up."
            )


def _finite(epsilon: float | None) -> float | None:
    return epsilon if epsilon is not None and math.isfinite(epsilon) else None


def open_report(run: str) -> Report:
    """The report of a run given by its name or folder.

    Raises:
        RunError: there is no such run, or its configuration is missing.
        LedgerError: a ledger of its data cannot be trusted.
    """
    folder = find_run(run)
    if not folder.config.exists():
        raise RunError(f"{folder.config} is missing: nothing says what run {folder.name} promised")
    config = RunConfig.from_flat(read_json(folder.config))
    history, private = read_history(folder.history), config.privacy.is_private
    rounds = [e for e in history if e["kind"] == "round"]
    tests = sum(e["kind"] == "test" for e in history)
    ratios = [(e.get("privacy") or {}).get("signal_to_noise") for e in rounds]
    return Report(
        name=folder.name,
        config=config,
        rounds=max((int(e["round"]) for e in rounds), default=0),
        release=mechanism_of(config).release(config),
        once=once(config, tests=tests, began=bool(history)) if private else (),
        spent=_spent(config, folder.name) if private else Spent(),
        snr=[ratio for ratio in ratios if ratio is not None],
    )


def _spent(config: RunConfig, name: str) -> Spent:
    """What the ledgers under this home know of the run, and of the dearest user."""
    if not (config.dataset_path / SCHEMA_FILE).is_file():
        return Spent()
    population = load_catalogue(config.dataset_path).schema.known_as
    limit, unit, state = limit_of(config.privacy), config.privacy.unit, config.home / "state"
    ledger, users = server_ledger(state, population, unit), WHOLE_DATASET
    run = ledger.releases(users[0], name)
    if config.privacy.mode != "central-user":
        ledger = Ledger(state / "privacy", population, unit)
        users = ledger.users()
    epsilon = ledger.epsilon(users, limit) if users else None
    return Spent(run, epsilon, tuple(ledger.units_apart(users)))

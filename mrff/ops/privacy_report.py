"""What a run promises: unit, adversary, epsilon, delta, and what no guarantee covers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mrff.config import RunConfig
from mrff.data.dataset import load_catalogue
from mrff.ops.trained_run import RunError, find_run, read_json
from mrff.privacy.accounting import Release, epsilon_of, pure_epsilon
from mrff.privacy.ledger import Ledger
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.spending import WHOLE_DATASET, limit_of, server_ledger
from server_app.run.history import read_history


@dataclass(frozen=True)
class Report:
    """What is known of a run."""

    name: str
    config: RunConfig
    rounds: int  # done
    release: Release | None  # one round's; None in mode none
    ledger_epsilon: float | None  # over all runs on this data, where a ledger is at hand
    snr: list[float]

    @property
    def epsilon(self) -> float:
        """Of this run alone, for a unit that took part in every round."""
        if self.release is None or not self.rounds:
            return 0.0
        limit = limit_of(self.config.privacy)
        return epsilon_of([self.release.times(self.rounds)], limit.delta, limit.accountant)

    def numbers(self) -> dict[str, Any]:
        """For programs. ``epsilon`` is null in mode none, where there is no bound."""
        privacy, release = self.config.privacy, self.release
        return {
            "run": self.name,
            "privacy_mode": privacy.mode,
            "unit": privacy.unit if privacy.is_private else None,
            "private": privacy.is_private,
            "rounds": self.rounds,
            "epsilon": self.epsilon if release else None,
            "epsilon_of_all_runs": self.ledger_epsilon,
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
        yield f"Not trusted: {mechanism.not_trusted}."
        yield f"The guarantee covers {mechanism.covers}."
        yield from self._cost(release)
        if self.snr:
            low, high, last = min(self.snr), max(self.snr), self.snr[-1]
            yield f"Signal to noise of a round's sum: {low:.2f} to {high:.2f}, last {last:.2f}."
        yield (
            "Not covered: evaluation (AUC, LogLoss, score histograms, and the choice of the best "
            "round by them), how many users and records there are, who is connected, and timing."
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
        yield (
            f"Epsilon {self.epsilon:.4f} at delta {privacy.delta:g}, accountant "
            f"{privacy.accountant}: {noise} {release.noise_multiplier:g} times the clipping norm, "
            f"sampling rate {release.sampling_rate:g}{steps}."
        )
        if is_laplace:
            pure = pure_epsilon([release.times(max(self.rounds, 1))])
            yield f"Pure epsilon (delta 0): {pure:.4f}."
        if self.ledger_epsilon is None:
            yield (
                "The nodes' ledgers are not on this machine: what other runs on the same data "
                "cost is known to the nodes only."
            )
        else:
            together = f"epsilon {self.ledger_epsilon:.4f}"
            yield f"With all other runs on the same data (ledger): {together}."
        if privacy.epsilon_budget:
            yield f"Budget: epsilon {privacy.epsilon_budget:g}; a round beyond it is refused."


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
    rounds = [e for e in read_history(folder.history) if e["kind"] == "round"]
    ratios = [(e.get("privacy") or {}).get("signal_to_noise") for e in rounds]
    return Report(
        name=folder.name,
        config=config,
        rounds=max((int(e["round"]) for e in rounds), default=0),
        release=mechanism_of(config).release(config),
        ledger_epsilon=_ledger_epsilon(config) if config.privacy.is_private else None,
        snr=[ratio for ratio in ratios if ratio is not None],
    )


def _ledger_epsilon(config: RunConfig) -> float | None:
    """Of the dearest user in the ledgers under this home; None where there are none."""
    if not (config.dataset_path / "schema.json").is_file():
        return None
    schema = load_catalogue(config.dataset_path).schema
    limit, population = limit_of(config.privacy), schema.content_hash or schema.schema_hash
    state = config.home / "state"
    if config.privacy.mode == "central-user":
        return server_ledger(state, population).epsilon(WHOLE_DATASET, limit)
    ledger = Ledger(state / "privacy", population, config.privacy.unit)
    return ledger.epsilon(users, limit) if (users := ledger.users()) else None

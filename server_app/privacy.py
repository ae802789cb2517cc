"""The server's part in a privacy mode: checks before the first round, the ledger, the noise."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

from mrff.config import ConfigError, PrivacySettings, RunConfig
from mrff.data.schema import Schema
from mrff.privacy.accounting import Release, check_delta, epsilon_of, pure_epsilon
from mrff.privacy.ledger import Ledger, Limit
from mrff.privacy.noise import NoiseSource
from mrff_model.scopes import network_name
from strategies.bounds import Bounds
from strategies.privacy import PrivateAggregation
from strategies.round_sums import Aggregation, PlainAggregation

WHOLE_DATASET = [0]  # the server's ledger counts for every user alike
log = getLogger("flwr")


def make_aggregation(config: RunConfig, schema: Schema, training: str) -> Aggregation:
    """What the configured privacy mode makes of replies.

    Args:
        training: the run's name, for the ledger.

    Raises:
        ConfigError: delta or budget cannot be kept from the first round on.
        LedgerError: the ledger cannot be trusted.
    """
    privacy = config.privacy
    pooling = config.server.expert_pooling if config.pools_experts else 0.0
    if not privacy.is_private:
        return PlainAggregation(Bounds(config.server.max_update_norm), expert_pooling=pooling)
    release, limit = round_release(config), limit_of(privacy)
    _check(config, schema, release, limit)
    central = privacy.privacy_mode == "central-user"
    ledger = server_ledger(config.home, schema) if central else None

    def spend(server_round: int) -> float | None:
        if ledger is None:
            return None
        ledger.check(WHOLE_DATASET, release, limit)
        about = {"training": training, "round": server_round}
        ledger.append(WHOLE_DATASET, release, about, limit)
        return ledger.epsilon(WHOLE_DATASET, limit)

    def source(server_round: int) -> NoiseSource:
        if privacy.noise_is_secret:
            return NoiseSource()
        return NoiseSource(privacy.noise_seed, f"server, round {server_round}")

    return PrivateAggregation(
        spend=spend,
        clipping_norm=privacy.clipping_norm,
        route_share=privacy.route_share,
        order=1 if privacy.privacy_mode == "laplace" else 2,
        noise_multiplier=privacy.noise_multiplier if central else None,
        sampling_rate=config.training.sampling_rate if central else 1.0,
        quantile=privacy.clipping_quantile,
        adaptation_rate=privacy.clipping_learning_rate if privacy.adaptive_clipping else 0.0,
        frozen=privacy.frozen_prefixes,
        weight_of=lambda name: privacy.clipping_weight(network_name(name)),
        delta=privacy.delta,
        make_source=source,
        expert_pooling=pooling,
    )


def round_release(config: RunConfig) -> Release:
    """What one round releases of a user who takes part (central-user: who may be drawn)."""
    privacy, training = config.privacy, config.training
    if privacy.privacy_mode == "laplace":
        return Release(privacy.noise_multiplier, mechanism="laplace")
    if privacy.privacy_mode == "local-dp-sgd":
        return Release(privacy.noise_multiplier, privacy.record_sampling_rate, training.local_steps)
    return Release(privacy.noise_multiplier, training.sampling_rate)


def limit_of(privacy: PrivacySettings) -> Limit:
    """What the configuration allows to be spent."""
    accountant = "rdp" if privacy.accountant == "rdp" else "prv"
    return Limit(privacy.epsilon_budget, privacy.delta, accountant)  # type: ignore[arg-type]


def server_ledger(home: Path, schema: Schema) -> Ledger:
    """The ledger of what models trained on this data have let out, whatever the run.

    Raises:
        LedgerError: it cannot be trusted.
    """
    dataset = schema.content_hash or schema.schema_hash
    return Ledger(home / "state" / "privacy-server" / f"{dataset}.jsonl", dataset)


def _most_units(config: RunConfig, schema: Schema) -> int:
    """Users, or at most how many records, the dataset has."""
    users = int(schema.counts.get("users", 0))
    if config.privacy.privacy_unit == "user":
        return users
    windows = int(schema.counts.get("interactions", 0)) // config.data.window_length + users
    most = config.data.max_windows_per_user
    return min(windows, users * most) if most else windows


def _check(config: RunConfig, schema: Schema, release: Release, limit: Limit) -> None:
    privacy = config.privacy
    try:
        check_delta(privacy.delta, _most_units(config, schema))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rounds = config.server.num_server_rounds
    one, planned = (
        epsilon_of([release.times(n)], limit.delta, limit.accountant) for n in (1, rounds)
    )
    if 0.0 < limit.epsilon < one:
        raise ConfigError(
            f"epsilon-budget={limit.epsilon:g} is impossible: one round costs epsilon {one:.4g} at "
            f"delta={limit.delta:g}; raise noise-multiplier (mrff privacy plan solves for it)"
        )
    log.info(
        "privacy: %s, unit %s; %d rounds cost epsilon %.4g at delta %g by %s",
        privacy.privacy_mode, privacy.privacy_unit, rounds, planned, limit.delta, limit.accountant,
    )  # fmt: skip
    if release.mechanism == "laplace":
        log.info("privacy: pure epsilon of them all %.4g", pure_epsilon([release.times(rounds)]))
    if 0.0 < limit.epsilon < planned:
        log.warning("privacy: more than epsilon-budget=%g: training ends early", limit.epsilon)
    if not privacy.noise_is_secret:
        log.warning("privacy: noise-seed is set, the noise is predictable: NOT PRIVATE")

"""Which settings cannot go with a private mode: why, and the way out."""

from __future__ import annotations

from collections.abc import Iterator

from mrff.config import PrivacySettings, RunConfig
from mrff.config.names import SETTINGS


def private_conflicts(config: RunConfig) -> Iterator[str]:
    """What no private mode can go with.

    Raises:
        ConfigError: ``privacy.clipping-weights`` cannot be read.
    """
    privacy, training = config.privacy, config.training
    privacy.clipping_weight("")  # whether it can be read
    mode = f"privacy.mode={privacy.mode}"
    if training.user_weighting != "uniform":
        yield (
            f"training.user-weighting={training.user_weighting} cannot go with {mode}: a user "
            "with more targets would count for more than privacy.clipping-norm; "
            "use training.user-weighting=uniform"
        )
    if privacy.adaptive_clipping and privacy.route_share == 0.0:
        yield (
            "privacy.adaptive-clipping=true cannot go with privacy.route-share=0: the count of "
            "clipped units is measured with that share of privacy.clipping-norm; "
            "use a route-share such as 0.1"
        )
    for name, value in (
        ("select-best-by", config.evaluation.select_best_by),
        ("early-stop-patience", config.evaluation.early_stop_patience),
    ):
        if value is not None:
            word = SETTINGS[f"evaluation.{name}"].limits.word
            yield (
                f"evaluation.{name}={value} cannot go with {mode}: a validation of every few "
                "rounds would tell about users outside the guarantee, so the last round's model "
                f"counts; use evaluation.{name}={word}"
            )
    if config.evaluation.keep_test_scores:
        yield (
            f"evaluation.keep-test-scores=true cannot go with {mode}: users who were promised "
            "privacy leave no list of their labels and scores behind; "
            "set evaluation.keep-test-scores=false, or compare with privacy.mode=none"
        )
    if config.network.user_factors and privacy.private_training == "noised":
        yield (
            "network.user-factors=true cannot go with privacy.private-training=noised: how far "
            "factors move tells how many targets a user has; use network.user-factors=false, "
            "or privacy.private-training=free or frozen"
        )
    for key, chosen, plain in (
        ("network.clusters", config.network.clusters, None),
        ("network.private-parameters", config.network.private_parameters, "user"),
        ("training.proximal-weight", training.proximal_weight, 0.0),
    ):
        if chosen != plain:
            yield (
                f"{key}={chosen} cannot go with {mode}, which knows MRFF's uploads only; "
                f"use {key}={SETTINGS[key].written(plain)} or privacy.mode=none"
            )
    if config.server.max_update_norm:
        yield (
            f"server.max-update-norm={config.server.max_update_norm:g} cannot go with {mode}: its "
            "uploads hold noise, and privacy.clipping-norm bounds what a user adds; "
            "set server.max-update-norm=off"
        )


def item_conflicts(config: RunConfig, why: str) -> Iterator[str]:
    """Of a mode that has no sums of items."""
    if config.network.item_statistics:
        yield (
            f"network.item-statistics=true cannot go with privacy.mode={config.privacy.mode}: "
            f"{why}; use network.item-statistics=false, or privacy.mode=central-user or "
            "distributed-user"
        )


def whole_user_conflicts(privacy: PrivacySettings) -> Iterator[str]:
    """What a mode whose unit is the user cannot go with."""
    mode = f"privacy.mode={privacy.mode}"
    if privacy.unit != "user":
        yield (
            f"privacy.unit={privacy.unit} cannot go with {mode}: it clips "
            "whole users; use privacy.unit=user, or privacy.mode=local-dp-sgd"
        )
    if privacy.private_training == "noised":
        yield (
            f"privacy.private-training=noised cannot go with {mode}: the unit is the user, whose "
            "private parameters touch their own update only; "
            "use privacy.private-training=free or frozen"
        )
    if privacy.record_sampling_rate != 1.0:
        yield (
            f"privacy.record-sampling-rate={privacy.record_sampling_rate:g} cannot go with "
            f"{mode}: it samples users (training.sampling-rate); leave it at 1"
        )

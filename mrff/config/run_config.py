"""One run's whole configuration, built once from Flower's flat run configuration."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrff.config.parsing import ConfigError, Value, key_of, keys_of, parse, refuse_unknown
from mrff.config.privacy import PrivacySettings, check_privacy
from mrff.config.settings import (
    DataSettings,
    EvaluationSettings,
    NetworkSettings,
    OutputSettings,
    ServerSettings,
    TrainingSettings,
)


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, by the part that reads them."""

    data: DataSettings
    network: NetworkSettings
    training: TrainingSettings
    privacy: PrivacySettings
    server: ServerSettings
    evaluation: EvaluationSettings
    output: OutputSettings

    @classmethod
    def from_flat(cls, values: Mapping[str, Value]) -> RunConfig:
        """Builds the configuration from kebab-case keys, as Flower hands them over.

        Raises:
            ConfigError: an unknown key, a wrong type, a value outside its limits, or settings
                that cannot go together.
        """
        refuse_unknown(values, known_keys())
        config = cls(
            data=parse(DataSettings, values),
            network=parse(NetworkSettings, values),
            training=parse(TrainingSettings, values),
            privacy=parse(PrivacySettings, values),
            server=parse(ServerSettings, values),
            evaluation=parse(EvaluationSettings, values),
            output=parse(OutputSettings, values),
        )
        _check_together(config)
        return config

    def to_flat(self) -> dict[str, Value]:
        """The inverse of `from_flat`, every key included."""
        flat: dict[str, Value] = {}
        for part in dataclasses.fields(self):
            for name, value in dataclasses.asdict(getattr(self, part.name)).items():
                flat[key_of(name)] = value
        return flat

    def network_arguments(self) -> dict[str, Any]:
        """The arguments of `mrff_model.building.build_network` that are settings."""
        arguments = dataclasses.asdict(self.network)
        del arguments["user_features"], arguments["clusters"]
        return arguments | {"seed": self.training.seed, "window_length": self.data.window_length}

    @property
    def routes_shape(self) -> tuple[int, int]:
        """Layers and experts that a user is routed through; copies of a network are one layer."""
        if self.network.clusters:
            return 1, self.network.clusters
        return self.network.num_layers, self.network.num_experts

    @property
    def pools_experts(self) -> bool:
        """Whether experts start alike and follow everybody's mean in part."""
        several = self.network.num_experts > 1 and not self.network.clusters
        return several and self.server.expert_pooling > 0.0

    @property
    def home(self) -> Path:
        """Absolute folder for data, runs and private state."""
        named = self.data.home or os.environ.get("MRFF_HOME") or "~/.mrff"
        return Path(named).expanduser().absolute()

    @property
    def dataset_path(self) -> Path:
        """Absolute folder of the prepared dataset."""
        if self.data.data_dir:
            return Path(self.data.data_dir).expanduser().absolute()
        return self.home / "data" / self.data.dataset


def known_keys() -> list[str]:
    """Every key a run configuration may hold."""
    parts = (
        DataSettings,
        NetworkSettings,
        TrainingSettings,
        PrivacySettings,
        ServerSettings,
        EvaluationSettings,
        OutputSettings,
    )
    return [key for part in parts for key in keys_of(part)]


def _check_together(config: RunConfig) -> None:
    network, output = config.network, config.output
    check_privacy(config.privacy, config.data, config.training)
    if config.evaluation.keep_test_scores and config.privacy.is_private:
        raise ConfigError(
            f"keep-test-scores=true cannot go with privacy-mode={config.privacy.privacy_mode}: "
            "users who were promised privacy leave no list of their labels and scores behind; "
            "set keep-test-scores=false, or compare with privacy-mode=none"
        )
    if network.gate_input == "hidden" and network.history_feedback:
        raise ConfigError(
            "gate-input=hidden cannot go with history-feedback=true: the gate would carry later "
            "labels back to earlier predictions; "
            "choose gate-input=history or history-feedback=false"
        )
    if network.hidden_dim and network.hidden_dim % network.num_heads:
        raise ConfigError(
            f"hidden-dim must be a multiple of num-heads={network.num_heads}, "
            f"got {network.hidden_dim}"
        )
    if network.user_factors and config.privacy.is_private:
        _check_user_factors(config.privacy)
    _check_rivals(config)
    if config.privacy.is_private and config.server.max_update_norm:
        raise ConfigError(
            f"max-update-norm={config.server.max_update_norm:g} cannot go with privacy-mode="
            f"{config.privacy.privacy_mode}: its uploads hold noise, and clipping-norm bounds what "
            "a user adds; set max-update-norm=0"
        )
    if output.run_name and output.resume:
        raise ConfigError(
            f"run-name={output.run_name!r} cannot go with resume={output.resume!r}: "
            "a resumed run keeps its name; leave run-name empty"
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]*", output.run_name) or output.run_name in {".", ".."}:
        raise ConfigError(
            f"run-name may hold letters, digits, '.', '_' and '-' only, got {output.run_name!r}"
        )


def _check_user_factors(privacy: PrivacySettings) -> None:
    if privacy.own_parameters == "noised":
        raise ConfigError(
            "user-factors=true cannot go with own-parameters=noised: how far factors move tells "
            "how many targets a user has; use user-factors=false, or own-parameters=free or frozen"
        )


def _check_rivals(config: RunConfig) -> None:
    """What other methods than MRFF exclude."""
    network, privacy = config.network, config.privacy
    if network.clusters and network.num_experts != 1:
        raise ConfigError(
            f"clusters={network.clusters} cannot go with num-experts={network.num_experts}: a copy "
            "of the whole network per cluster has no experts to choose from; use num-experts=1"
        )
    if network.clusters and network.private_parameters != "user":
        raise ConfigError(
            f"clusters={network.clusters} cannot go with private-parameters="
            f"{network.private_parameters}: what is private is in no copy; "
            "use private-parameters=user"
        )
    if not privacy.is_private:
        return
    for key, value, plain in (
        ("clusters", network.clusters, 0),
        ("private-parameters", network.private_parameters, "user"),
        ("proximal-weight", config.training.proximal_weight, 0.0),
    ):
        if value != plain:
            raise ConfigError(
                f"{key}={value} cannot go with privacy-mode={privacy.privacy_mode}, which knows "
                f"MRFF's uploads only; use {key}={plain} or privacy-mode=none"
            )

"""One run's whole configuration, built once from Flower's flat run configuration."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from mrff.config.declaration import AUTO, ConfigError, Value
from mrff.config.names import GROUPS, SETTINGS, Groups, check_full_names
from mrff.config.settings import NetworkSettings

Objective = Literal["click", "next", "both"]
LEARNED_OF: Mapping[str, Objective] = {"labelled": "click", "events": "next", "both": "both"}
"""What ``training.objective=auto`` learns, by the kind of a dataset's rows."""
ONLY_OF: Mapping[str, frozenset[Objective]] = {
    "training.linear-items": frozenset({"next", "both"}),
    "network.time-inputs": frozenset({"click", "both"}),
}
"""Settings that a run with another objective does not take over from an earlier one."""
MOST_GROUPS = 256  # of all layers together that a user's labels are compared with
SAME_TIME_MARKS = {"known": "", "unknown": "labels of the same time unknown"}
"""How results are marked wherever they are shown, by ``data.same-time``."""


@dataclasses.dataclass(frozen=True)
class TimesRead:
    """What a run reads of the times of rows; by default nothing."""

    same_time: str = "known"  # `data.same-time`
    inputs: bool = False  # `network.time-inputs`


@dataclass(frozen=True)
class RunConfig(Groups):
    """The settings of a run, by the part that reads them, and what follows from several.

    ``to_fit`` are the full names of settings that the data may still decide; until then they have
    their plain defaults. A private run has none: what the data says would be told.
    """

    to_fit: frozenset[str] = frozenset()

    @classmethod
    def from_flat(cls, values: Mapping[str, Value]) -> RunConfig:
        """Builds the configuration from full names, as Flower hands them over.

        `mrff.config.full_names` makes full names of leaves and of tables.

        Raises:
            ConfigError: an unknown name, a wrong type, a value outside its limits, or settings
                that cannot go together.
        """
        check_full_names(values)
        given: dict[str, dict[str, Value | None]] = {group: {} for group in GROUPS}
        for key, setting in SETTINGS.items():
            if key in values:
                given[setting.group][setting.attribute] = setting.parsed(values[key])
        config = cls(**{group: settings(**given[group]) for group, settings in GROUPS.items()})
        for conflict in _conflicts(config):
            raise ConfigError(conflict)
        if not config.run.fit_settings or config.privacy.mode != "none":
            return config
        left = (
            k for k, setting in SETTINGS.items() if setting.fitted and values.get(k, AUTO) == AUTO
        )
        return dataclasses.replace(config, to_fit=frozenset(left))

    def for_data(self, kind: str) -> RunConfig:
        """The configuration of a run on data of this kind: what is left to the data is decided.

        Server and nodes both ask, each its own schema, whose hash they share. What a run stores
        is decided already.

        Args:
            kind: of rows, as the schema says it: ``labelled``, ``events`` or ``both``.

        Raises:
            ConfigError: an objective that needs labels on data without, or settings that cannot
                go with the objective.
        """
        objective = self.training.objective or LEARNED_OF[kind]
        if kind == "events" and objective != "next":
            raise ConfigError(
                f"training.objective={objective} cannot go with data.dataset={self.data.dataset}: "
                "its rows are events without labels, and nothing says what was not liked; "
                "choose training.objective=next"
            )
        if kind == "events" and self.data.same_time == "unknown":
            raise ConfigError(
                f"data.same-time=unknown cannot go with data.dataset={self.data.dataset}: its rows "
                "are events without labels, and none can be unknown; use data.same-time=known"
            )
        return RunConfig.from_flat({**self.to_flat(), "training.objective": objective})

    def to_flat(self) -> dict[str, Value]:
        """The inverse of `from_flat`, every setting included."""
        return {
            key: AUTO
            if key in self.to_fit
            else setting.written(getattr(getattr(self, setting.group), setting.attribute))
            for key, setting in SETTINGS.items()
        }

    def network_arguments(self) -> dict[str, Any]:
        """The fields of `mrff_model.shape.NetworkShape`."""
        shape = dataclasses.asdict(self.network) | {
            "window_length": self.data.window_length,
            "same_time": self.data.same_time,
            "objective": self.objective,
            "gate_input": self.gate_input,
            "noised_statistics": self.network.item_statistics and self.privacy.is_private,
            "feature_mix": self.feature_mix,
            "feature_dim": self.network.feature_dim or (8 if self.feature_mix == "concat" else 48),
        }
        del shape["clusters"]
        for width in (
            "hidden_dim",
            "expert_dim",
            "user_network_dim",
            "user_embedding_dim",
            "closed_form_factors",
        ):
            shape[width] = shape[width] or 0
        return shape

    def with_fitted(self, found: Mapping[str, Value]) -> RunConfig:
        """The configuration with fitting values of what was left open; nothing is open then.

        Args:
            found: by full name; what is not in `to_fit` was said by somebody, and stays.
        """
        open_ = {key: value for key, value in found.items() if key in self.to_fit}
        return RunConfig.from_flat({**self.to_flat(), **open_, "run.fit-settings": False})

    @property
    def objective(self) -> Objective:
        """What is learned; before `for_data`, as if the data had labels."""
        return cast(Objective, self.training.objective or LEARNED_OF["labelled"])

    @property
    def holds_out_targets(self) -> bool:
        """Whether a user's held-out rows are their last liked ones; clicks need both labels."""
        return self.objective == "next" and self.data.targets == "liked"

    @property
    def times_read(self) -> TimesRead:
        """What the run reads of the times of rows."""
        return TimesRead(self.data.same_time, self.network.time_inputs)

    @property
    def same_time_mark(self) -> str:
        """How this run's results are marked; empty for what is usual."""
        return SAME_TIME_MARKS[self.data.same_time]

    @property
    def reads_item_statistics(self) -> bool:
        """Whether rows have to be known as those that item statistics were summed over."""
        return self.network.item_statistics and self.objective != "next"

    @property
    def tests(self) -> bool:
        """Whether anything is held out for a test; final training holds nothing out."""
        return self.data.holdout > 0

    @property
    def validation_share(self) -> float:
        """Share of users who do not train in final training; private modes validate nothing."""
        return 0.0 if self.privacy.is_private else self.data.validation_users

    @property
    def validates_somebody(self) -> bool:
        """Whether any user is scored at all."""
        return self.tests or self.validation_share > 0.0

    @property
    def for_scoring(self) -> RunConfig:
        """Where nothing is held out for a test, users are scored on their last interaction."""
        return self if self.tests else RunConfig.from_flat({**self.to_flat(), "data.holdout": 1})

    @property
    def gate_input(self) -> str:
        """What the gates read."""
        learned = "history" if self.objective == "click" else "earlier"
        return self.network.gate_input or learned

    @property
    def feature_mix(self) -> str:
        """How an item's features become its embedding."""
        return self.network.feature_mix or ("concat" if self.objective == "click" else "sum")

    @property
    def best_by(self) -> str:
        """The validation metric that says which round's model is best."""
        both = "auc" if self.privacy.mode != "none" else "auc_ndcg10"  # there are no validations
        learned = {"click": "auc", "next": "ndcg10", "both": both}[self.objective]
        return self.evaluation.select_best_by or learned

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


def _conflicts(config: RunConfig) -> Iterator[str]:
    """Which settings cannot go together and why, each with the way out."""
    yield from _network_conflicts(config.network)
    if config.objective != "click" and config.gate_input != "earlier":
        yield (
            f"network.gate-input={config.gate_input} cannot go with training.objective="
            f"{config.objective}: the gate would read the very items that are to be predicted; "
            "choose network.gate-input=earlier"
        )
    if config.network.time_inputs and config.objective == "next":
        yield (
            "network.time-inputs=true cannot go with training.objective=next: the head of clicks "
            "reads them; use network.time-inputs=false"
        )
    if config.training.linear_items and config.training.objective == "click":
        yield (
            f"training.linear-items={config.training.linear_items} cannot go with "
            "training.objective=click: linear models rank the next item; choose "
            "training.objective=next or both, or training.linear-items=off"
        )
    if config.training.linear_items and config.privacy.mode != "none":
        yield (
            f"training.linear-items={config.training.linear_items} cannot go with privacy.mode="
            f"{config.privacy.mode}: their sums name the items of a one-user node; "
            "use training.linear-items=off"
        )
    yield from _statistics_conflicts(config)
    yield from _evidence_conflicts(config)
    yield from _secure_conflicts(config)
    name, resume = config.run.name, config.run.resume
    if name and resume:
        yield (
            f"run.name={name!r} cannot go with run.resume={resume!r}: "
            "a resumed run keeps its name; leave run.name at auto"
        )
    if name and (not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name in {".", "..", "off"}):
        yield (
            "run.name may hold letters, digits, '.', '_' and '-' only, and is not off, "
            f"got {name!r}"
        )


def _statistics_conflicts(config: RunConfig) -> Iterator[str]:
    network, mode = config.network, config.privacy.mode
    if network.closed_form_factors and not network.item_statistics:
        yield (
            f"network.closed-form-factors={network.closed_form_factors} needs "
            "network.item-statistics=true, which says what others make of an item"
        )
    if network.closed_form_factors and mode != "none":
        yield (
            f"network.closed-form-factors={network.closed_form_factors} cannot go with "
            f"privacy.mode={mode}: each of their twelve sums would have to be noised and charged; "
            "use network.closed-form-factors=off"
        )
    if network.item_statistics and network.item_bias:
        yield (
            "network.item-statistics=true cannot go with network.item-bias=true: an item's own "
            "number and the rate among others give away the label of a training row; use "
            "network.item-bias=false, the rate says as much"
        )
    if network.item_statistics and network.private_parameters == "all":
        yield (
            "network.item-statistics=true cannot go with network.private-parameters=all: "
            "statistics of items are shared; use network.item-statistics=false"
        )


def _secure_conflicts(config: RunConfig) -> Iterator[str]:
    privacy, norm = config.privacy, config.server.max_update_norm
    if privacy.secure_ring_bits not in (16, 32, 64):
        yield f"privacy.secure-ring-bits must be 16, 32 or 64, got {privacy.secure_ring_bits}"
    if privacy.secure_value_bits > privacy.secure_ring_bits:
        yield (
            f"privacy.secure-value-bits={privacy.secure_value_bits} cannot go with "
            f"privacy.secure-ring-bits={privacy.secure_ring_bits}: a value has to fit into the "
            "ring, with one bit more for every doubling of the nodes; use fewer value bits"
        )
    if privacy.secure_aggregation and config.server.compression != "none":
        yield (
            f"server.compression={config.server.compression} cannot go with "
            "privacy.secure-aggregation=true: masked sums look random and have bits of their own; "
            "use server.compression=none, and privacy.secure-ring-bits=16 for less"
        )
    if privacy.secure_aggregation and norm:
        yield (
            f"server.max-update-norm={norm:g} cannot go with privacy.secure-aggregation=true: the "
            "server sees no node's update; set server.max-update-norm=off"
        )


def _evidence_conflicts(config: RunConfig) -> Iterator[str]:
    network = config.network
    if network.gate_mode != "evidence":
        return
    if config.objective != "click":
        yield (
            f"network.gate-mode=evidence cannot go with training.objective={config.objective}: "
            "labels of clicks choose the groups; use network.gate-mode=switch"
        )
    if network.private_parameters != "user":
        yield (
            "network.gate-mode=evidence cannot go with network.private-parameters="
            f"{network.private_parameters}: groups share what they predict by; "
            "use network.private-parameters=user"
        )
    if network.head != "mlp":
        yield (
            f"network.gate-mode=evidence cannot go with network.head={network.head}: it has no "
            "layers with experts; use network.head=mlp"
        )
    groups = network.num_experts**network.num_layers
    if groups > MOST_GROUPS:
        yield (
            f"network.gate-mode=evidence compares num-experts ** num-layers groups, at most "
            f"{MOST_GROUPS}, got {network.num_experts} ** {network.num_layers}; "
            "use fewer experts or layers"
        )


def _network_conflicts(network: NetworkSettings) -> Iterator[str]:
    if network.gate_input == "hidden" and network.history_feedback:
        yield (
            "network.gate-input=hidden cannot go with network.history-feedback=true: the gate "
            "would carry later labels back to earlier predictions; "
            "choose network.gate-input=history or network.history-feedback=false"
        )
    if network.hidden_dim and network.hidden_dim % network.num_heads:
        yield (
            f"network.hidden-dim must be a multiple of network.num-heads={network.num_heads}, "
            f"got {network.hidden_dim}"
        )
    if not network.clusters:
        return
    if network.num_experts != 1:
        yield (
            f"network.clusters={network.clusters} cannot go with network.num-experts="
            f"{network.num_experts}: a copy of the whole network per cluster has no experts to "
            "choose from; use network.num-experts=1"
        )
    if network.private_parameters != "user":
        yield (
            f"network.clusters={network.clusters} cannot go with network.private-parameters="
            f"{network.private_parameters}: what is private is in no copy; "
            "use network.private-parameters=user"
        )

"""Settings that cannot go together: which, why, and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mrff.config.derived import Derived
from mrff.config.evidence import against_evidence
from mrff.config.settings import NetworkSettings


def conflicts(config: Derived) -> Iterator[str]:
    """One line for each conflict."""
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
    yield from _precision_conflicts(config)
    yield from _statistics_conflicts(config)
    yield from _group_choice_conflicts(config)
    if config.network.gate_mode == "evidence":
        yield from against_evidence(config, config.objective)
    yield from _secure_conflicts(config)
    name, resume = config.run.name, config.run.resume
    share = config.run.start_share
    if share != 1.0 and not config.run.start_from:
        yield f"run.start-share={share:g} needs run.start-from, whose model it takes a share of"
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


def _precision_conflicts(config: Derived) -> Iterator[str]:
    precision, mode = config.training.precision, config.privacy.mode
    if precision != "fp32" and mode != "none":
        yield (
            f"training.precision={precision} cannot go with privacy.mode={mode}: how a product is "
            "rounded depends on who else is computed with, beyond what clipping bounds; use "
            "training.precision=fp32"
        )


def _group_choice_conflicts(config: Derived) -> Iterator[str]:
    if config.server.groups != "validated":
        return
    if config.privacy.is_private:
        yield (
            f"server.groups=validated cannot go with privacy.mode={config.privacy.mode}: private "
            "runs validate nothing; use server.groups=kept"
        )
    if config.network.clusters:
        yield (
            f"server.groups=validated cannot go with network.clusters={config.network.clusters}: "
            "copies of a network have no expert in common; use server.groups=kept"
        )


def _statistics_conflicts(config: Derived) -> Iterator[str]:
    network, mode = config.network, config.privacy.mode
    if network.kind_statistics and not network.item_statistics:
        yield (
            "network.kind-statistics=true needs network.item-statistics=true: a kind's sums are "
            "those of its items"
        )
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


def _secure_conflicts(config: Derived) -> Iterator[str]:
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
    if network.history_times and network.head == "linear":
        yield (
            "network.history-times=true cannot go with network.head=linear: it has no layers that "
            "read the history; use network.history-times=false"
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

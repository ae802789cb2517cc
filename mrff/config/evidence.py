"""What cannot go with groups that labels choose, and why (`mrff_model.evidence`)."""

from __future__ import annotations

from collections.abc import Iterator

from mrff.config.names import Groups

MOST_GROUPS = 256
"""Of all layers together that a user's labels are compared with."""


def against_evidence(config: Groups, objective: str) -> Iterator[str]:
    """One line for each setting that ``network.gate-mode=evidence`` cannot go with.

    Args:
        config: the settings of a run.
        objective: what is learned, "click", "next" or "both".
    """
    network = config.network
    if objective != "click":
        yield (
            f"network.gate-mode=evidence cannot go with training.objective={objective}: "
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
    if config.privacy.mode == "local-dp-sgd":
        yield (
            "network.gate-mode=evidence cannot go with privacy.mode=local-dp-sgd: a group chosen "
            "by all of a user's labels would put one record into the gradients of the others; use "
            "network.gate-mode=switch, or privacy.mode=central-user"
        )

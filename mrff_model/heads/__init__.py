"""Heads of clicks: what is known of a target and its history, as one logit.

A further head is a file here and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping

from mrff_model.heads.base import Head, HeadSizes, Seen
from mrff_model.heads.linear import LinearHead
from mrff_model.heads.mlp import MlpHead
from mrff_model.heads.target_attention import TargetAttentionHead
from mrff_model.shape import NetworkShape

__all__ = ["HEADS", "Head", "HeadSizes", "Seen", "head_named", "head_of"]

HEADS: Mapping[str, type[Head]] = {
    "mlp": MlpHead,
    "linear": LinearHead,
    "target-attention": TargetAttentionHead,
}


def head_of(shape: NetworkShape) -> type[Head]:
    """The head of a network.

    Raises:
        ValueError: there is no such head, or it cannot go with other settings.
    """
    head = head_named(shape.head)
    if head.reads_states:
        return head
    if shape.objective != "click":
        raise ValueError(
            f"network.head={shape.head} cannot go with training.objective={shape.objective}: its "
            "network has no layers for the next item to be learned by; use network.head=mlp"
        )
    if shape.num_experts > 1:
        raise ValueError(
            f"network.head={shape.head} cannot go with network.num-experts={shape.num_experts}: "
            "its network has no layers, hence no groups; use network.num-experts=1"
        )
    return head


def head_named(name: str) -> type[Head]:
    """The head of that name; ValueError where there is none."""
    if name not in HEADS:
        raise ValueError(f"head must be one of {', '.join(sorted(HEADS))}, got {name!r}")
    return HEADS[name]

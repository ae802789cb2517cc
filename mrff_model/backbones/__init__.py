"""Backbones: how a position of the history attends to those before it.

The gate, the experts and the user network are the same for all of them. Histories are padded at the
right, so causality alone keeps padding out. A further backbone is a file here and a line below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mrff_model.backbones.base import Backbone
from mrff_model.backbones.hstu import PointwiseAttention
from mrff_model.backbones.linear import LinearAttention
from mrff_model.backbones.sasrec import CausalSelfAttention

BACKBONES: Mapping[str, Callable[[int, int, int], Backbone]] = {
    "sasrec": CausalSelfAttention,
    "hstu": PointwiseAttention,
    "linear": LinearAttention,
}


def build_backbone(name: str, dim: int, num_heads: int, max_length: int) -> Backbone:
    """A backbone of that name.

    Args:
        dim: d, width of a position.
        num_heads: H; must divide d.
        max_length: L, most positions of a window.

    Raises:
        ValueError: there is no such backbone, or ``dim`` is no multiple of ``num_heads``.
    """
    backbone = backbone_named(name)
    if dim % num_heads:
        raise ValueError(f"the hidden width {dim} must be a multiple of num-heads={num_heads}")
    return backbone(dim, num_heads, max_length)


def backbone_named(name: str) -> Callable[[int, int, int], Backbone]:
    """What makes a backbone of that name from width, heads and most positions.

    Raises:
        ValueError: there is no such backbone.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    return BACKBONES[name]

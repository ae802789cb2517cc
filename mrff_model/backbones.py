"""Backbones: how a position of the history attends to those before it.

A backbone is a module ``(N, L, d) -> (N, L, d)`` that lets position t see positions <= t only; the
gate, the experts and the user network are the same for all of them. `BACKBONES` names them for the
configuration. Histories are padded at the right, so causality alone keeps padding out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from mrff_model.attention import CausalSelfAttention
from mrff_model.hstu import PointwiseAttention
from mrff_model.linear_attention import LinearAttention


class Backbone(Protocol):
    """What a further backbone has to fit."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d), causal along L."""
        ...

    def floats_per_position(self, length: int) -> int:
        """About how many numbers a training step keeps per position of a window of ``length``."""
        ...


BACKBONES: Mapping[str, type[nn.Module]] = {
    "sasrec": CausalSelfAttention,
    "hstu": PointwiseAttention,
    "linear": LinearAttention,
}


def build_backbone(name: str, dim: int, num_heads: int, max_length: int) -> nn.Module:
    """A backbone of that name.

    Args:
        dim: d, width of a position.
        num_heads: H; must divide d.
        max_length: L, most positions of a window.

    Raises:
        ValueError: ``dim`` is no multiple of ``num_heads``.
    """
    if dim % num_heads:
        raise ValueError(f"the hidden width {dim} must be a multiple of num-heads={num_heads}")
    return BACKBONES[name](dim, num_heads, max_length)

"""Backbones: how a position of the history attends to those before it.

A backbone is a module ``(N, L, d) -> (N, L, d)`` that lets position t see positions <= t only; the
gate, the experts and the user network are the same for all of them. `BACKBONES` names them for the
configuration. Histories are padded at the right, so causality alone keeps padding out.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class Backbone(Protocol):
    """What a further backbone has to fit."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d), causal along L."""
        ...


class CausalSelfAttention(nn.Module):
    """Multi-head causal softmax attention, as in SASRec (Kang and McAuley, ICDM 2018).

    Args:
        dim: d, width of a position.
        num_heads: H; must divide d.

    Raises:
        ValueError: ``dim`` is no multiple of ``num_heads``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"the hidden width {dim} must be a multiple of num-heads={num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d)."""
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (N, H, L, d/H)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (N, L, d)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (N, H, L, d/H)


BACKBONES: dict[str, type[CausalSelfAttention]] = {"sasrec": CausalSelfAttention}

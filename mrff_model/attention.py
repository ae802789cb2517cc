"""Backbones: how a position of the history attends to those before it.

A backbone is a module ``(N, L, d) -> (N, L, d)`` that lets position t see positions <= t only; the
gate, the experts and the user network are the same for all of them. `BACKBONES` names them for the
configuration. Histories are padded at the right, so causality alone keeps padding out.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
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
        # A bias would add the same to all scores of a query: softmax ignores it, its gradient is
        # rounding noise, and Adam on the server would turn that noise into full steps.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d)."""
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = causal_attention(query, key, value)  # (N, H, L, d/H)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (N, L, d)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (N, H, L, d/H)


WRITTEN_OUT_LENGTH = 128  # up to here the formula is faster than PyTorch's kernel (on a CPU)


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over the positions up to one's own; (N, H, L, D) each."""
    length = query.shape[-2]
    if length > WRITTEN_OUT_LENGTH:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    scaled = query * (1.0 / math.sqrt(query.shape[-1]))
    later = torch.full((length, length), -math.inf, dtype=query.dtype, device=query.device)
    scores = scaled @ key.transpose(-1, -2) + later.triu(1)  # (N, H, L, L)
    return torch.softmax(scores, dim=-1) @ value


BACKBONES: dict[str, type[CausalSelfAttention]] = {"sasrec": CausalSelfAttention}

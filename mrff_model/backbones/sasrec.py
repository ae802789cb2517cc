"""Backbone ``sasrec``: causal softmax attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.backbones.base import join_heads, split_heads

WRITTEN_OUT_LENGTH = 128  # up to here the formula is faster than PyTorch's kernel (on a CPU)


class CausalSelfAttention(nn.Module):
    """Multi-head causal softmax attention, as in SASRec (Kang and McAuley, ICDM 2018).

    Args:
        dim: d, width of a position.
        num_heads: H, divides d.
        max_length: L, most positions; softmax attention needs to know nothing of it.
    """

    def __init__(self, dim: int, num_heads: int, max_length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        # A bias would add the same to all scores of a query: softmax ignores it, its gradient is
        # rounding noise, and Adam on the server would turn that noise into full steps.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d)."""
        heads = (
            split_heads(part(x), self.num_heads) for part in (self.query, self.key, self.value)
        )
        return self.out(join_heads(causal_attention(*heads)))

    def floats_per_position(self, length: int) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        return 3 * self.num_heads * length


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over the positions up to one's own; (N, H, L, D) each."""
    length = query.shape[-2]
    if length > WRITTEN_OUT_LENGTH:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    scaled = query * (1.0 / math.sqrt(query.shape[-1]))
    later = torch.full((length, length), -math.inf, dtype=query.dtype, device=query.device)
    scores = scaled @ key.transpose(-1, -2) + later.triu(1)  # (N, H, L, L)
    return torch.softmax(scores, dim=-1) @ value

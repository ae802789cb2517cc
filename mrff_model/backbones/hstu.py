"""Backbone ``hstu``: pointwise SiLU attention with a relative position bias, gated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.backbones.base import join_heads, split_heads

INITIAL_BIAS_STD = 0.02
NORM_EPSILON = 1e-6  # a mean over few positions is small against the usual 1e-5


class PointwiseAttention(nn.Module):
    """The attention of HSTU (Zhai et al., "Actions Speak Louder than Words", ICML 2024, eqs. 1-3).

        U, V, Q, K = SiLU(f_1(X));  A = SiLU(Q K^T + b_{t-s}) / N;  Y = f_2(LN(A V) * U)

    No softmax: how much a position attends to is not shared out between the others, which keeps
    the strength of a preference. The paper's bias also knows times; the records here have none.
    There a layer has no feed-forward network besides; here the experts and the user network are
    those of all backbones.

    Args:
        dim: d, width of a position.
        num_heads: H, divides d.
        max_length: N, most positions; a bias for every distance below it.
    """

    def __init__(self, dim: int, num_heads: int, max_length: int) -> None:
        super().__init__()
        self.num_heads, self.max_length = num_heads, max_length
        self.input = nn.Linear(dim, 4 * dim, bias=False)  # f_1
        self.distance_bias = nn.Parameter(torch.randn(max_length) * INITIAL_BIAS_STD)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.out = nn.Linear(dim, dim)  # f_2

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d).

        Raises:
            ValueError: more than ``max_length`` positions.
        """
        length = x.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"hstu knows distances below {self.max_length}, got {length} positions"
            )
        gate, value, query, key = F.silu(self.input(x)).chunk(4, dim=-1)
        query, key, value = (split_heads(part, self.num_heads) for part in (query, key, value))
        places = torch.arange(length, device=x.device)
        distance = places.unsqueeze(1) - places  # (L, L), t - s
        bias = self.distance_bias[distance.clamp(min=0)]
        scores = query @ key.transpose(-1, -2) + bias  # (N, H, L, L)
        weights = F.silu(scores) * ((distance >= 0).to(x.dtype) / self.max_length)
        mixed = join_heads(weights @ value)  # (N, L, d)
        return self.out(self.norm(mixed) * gate)

    def floats_per_position(self, length: int) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        return 3 * self.num_heads * length + 6 * self.out.in_features

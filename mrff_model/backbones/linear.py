"""Backbone ``linear``: kernelised linear attention, O(L) in time and memory, for weak devices."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.backbones.base import join_heads, split_heads

CHUNK = 32  # positions computed at once: a sum per chunk is kept, not one per position
EPSILON = 1e-6  # keeps the division finite where all features of a query vanish


class LinearAttention(nn.Module):
    """Causal linear attention (Katharopoulos et al., "Transformers are RNNs", ICML 2020, eq. 12).

    Args:
        dim: d, width of a position.
        num_heads: H, divides d.
        max_length: L, most positions; linear attention needs to know nothing of it.
    """

    def __init__(self, dim: int, num_heads: int, max_length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d)."""
        heads = (
            split_heads(part(x), self.num_heads) for part in (self.query, self.key, self.value)
        )
        return self.out(join_heads(causal_linear_attention(*heads)))

    def floats_per_position(self, length: int) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        dim = self.out.in_features
        chunk = min(CHUNK, length)
        return 3 * self.num_heads * chunk + 4 * dim + 2 * dim * dim // self.num_heads // chunk


def causal_linear_attention(
    query: Tensor, key: Tensor, value: Tensor, *, chunk: int = CHUNK
) -> Tensor:
    """sum_{s<=t} (phi(q_t) . phi(k_s)) v_s / sum_{s<=t} phi(q_t) . phi(k_s), phi = elu + 1.

    Positions of a chunk see each other by an (C, C) matrix, and all chunks before it by the running
    sum of phi(k_s) v_s^T: O(L) whatever the length.

    Args:
        query, key, value: (N, H, L, D) each.
        chunk: C.

    Returns:
        (N, H, L, D).
    """
    length = query.shape[2]
    chunk = min(chunk, length)
    missing = -length % chunk
    query, key = F.elu(query) + 1.0, F.elu(key) + 1.0
    value = F.pad(value, (0, 1), value=1.0)  # (N, H, L, D + 1): the last sums up the denominator
    query, key, value = (  # (N, H, L/C, C, D or D + 1)
        F.pad(part, (0, 0, 0, missing)).unflatten(2, (-1, chunk)) for part in (query, key, value)
    )
    within = (query @ key.transpose(-1, -2)).tril() @ value
    totals = key.transpose(-1, -2) @ value  # (N, H, L/C, D, D + 1)
    # Of earlier chunks only; subtracting one's own from the sum would leave its rounding behind.
    before = F.pad(totals[:, :, :-1].cumsum(2), (0, 0, 0, 0, 1, 0))
    mixed = (within + query @ before).flatten(2, 3)[:, :, :length]
    return mixed[..., :-1] / (mixed[..., -1:] + EPSILON)

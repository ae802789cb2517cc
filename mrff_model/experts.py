"""The feed-forward networks of a layer: the bank of experts and the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import Dropout


class FeedForwards(nn.Module):
    """Several feed-forward networks of one shape, each a row of the stacked tensors.

    So a cohort whose users go through different ones is still one computation.

    Args:
        rows: how many.
        dim, inner: d, and the width between the two maps.
        out: width of what comes out; 0: d.
        starts_at_zero: as the zero function; otherwise each row from its own random values.
    """

    def __init__(
        self, rows: int, dim: int, inner: int, *, out: int = 0, starts_at_zero: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.inner = dim, inner
        self.up_weight = nn.Parameter(_uniform(rows, dim, inner))
        self.up_bias = nn.Parameter(torch.zeros(rows, inner))
        out = out or dim
        down = torch.zeros(rows, inner, out) if starts_at_zero else _uniform(rows, inner, out)
        self.down_weight = nn.Parameter(down)
        self.down_bias = nn.Parameter(torch.zeros(rows, out))

    def through(self, h: Tensor, pick: Callable[[Tensor], Tensor], dropout: Dropout) -> Tensor:
        """(B, W, L, d) -> (B, W, L, out); ``pick`` gives every user's row of a tensor, (B, ...)."""
        weights = (self.up_weight, self.up_bias, self.down_weight, self.down_bias)
        up_weight, up_bias, down_weight, down_bias = map(pick, weights)
        flat = h.flatten(1, 2)  # (B, W L, d)
        inner = F.relu(torch.baddbmm(up_bias.unsqueeze(1), flat, up_weight))  # (B, W L, inner)
        inner = dropout(inner.unflatten(1, h.shape[1:3])).flatten(1, 2)  # by window and back
        outer = torch.baddbmm(down_bias.unsqueeze(1), inner, down_weight)  # (B, W L, out)
        return outer.unflatten(1, h.shape[1:3])


class ExpertBank(FeedForwards):
    """K feed-forward networks; each user goes through one of them."""

    def forward(self, h: Tensor, route: Tensor, dropout: Dropout) -> Tensor:
        """Sends user b's positions ``h[b]`` (W, L, d) through expert ``route[b]``."""
        return self.through(h, lambda weight: rows_by_product(weight, route), dropout)

    def of_all(self, h: Tensor) -> Tensor:
        """What every expert of one output makes of positions (..., d): (..., K)."""
        inner = torch.einsum("...d,kdi->...ki", h, self.up_weight) + self.up_bias
        return (F.relu(inner) * self.down_weight.squeeze(-1)).sum(-1) + self.down_bias.squeeze(-1)


class UserNetwork(FeedForwards):
    """UserFFN: each user's private network, one row per user; it starts as the zero function."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__(1, dim, inner, starts_at_zero=True)

    def forward(self, h: Tensor, dropout: Dropout) -> Tensor:
        """(B, W, L, d) -> (B, W, L, d); the parameters hold one row for all users, or B rows."""
        return self.through(h, lambda weight: weight.expand(len(h), *weight.shape[1:]), dropout)


def rows_by_product(table: Tensor, rows: Tensor) -> Tensor:
    """``table[rows]``, of a finite table of few rows: (K, ...) and (B,) -> (B, ...).

    Its gradient is a product as well, which `torch.func.vmap` computes at once for users with a
    table each; that of indexing is an operation for every user and row.
    """
    if len(table) == 1:
        return table.expand(len(rows), *table.shape[1:])
    chosen = rows.unsqueeze(-1) == torch.arange(len(table), device=rows.device)  # (B, K)
    return (chosen.to(table.dtype) @ table.flatten(1)).unflatten(1, table.shape[1:])


def _uniform(rows: int, fan_in: int, fan_out: int) -> Tensor:
    bound = 1.0 / math.sqrt(fan_in)
    return torch.empty(rows, fan_in, fan_out).uniform_(-bound, bound)

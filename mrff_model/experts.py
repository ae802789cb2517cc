"""The feed-forward networks of a layer: the bank of experts and the user's own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.dropout import keyed_dropout


class ExpertBank(nn.Module):
    """K feed-forward networks; each user goes through one of them.

    The K networks are slices of stacked tensors, so that a cohort whose users chose differently is
    still one computation. Every expert starts from its own random values.
    """

    def __init__(self, size: int, dim: int, inner: int) -> None:
        super().__init__()
        self.up_weight = nn.Parameter(_uniform(size, dim, inner, fan_in=dim))
        self.up_bias = nn.Parameter(torch.zeros(size, inner))
        self.down_weight = nn.Parameter(_uniform(size, inner, dim, fan_in=inner))
        self.down_bias = nn.Parameter(torch.zeros(size, dim))

    def forward(
        self, h: Tensor, route: Tensor, *, dropout: float, key: Tensor | None, site: int
    ) -> Tensor:
        """Sends user b's positions ``h[b]`` through expert ``route[b]``.

        Args:
            h: (B, W, L, d).
            route: (B,) int64, the chosen expert.
            dropout, key, site: see `keyed_dropout`.

        Returns:
            (B, W, L, d).
        """
        bank = (self.up_weight, self.up_bias, self.down_weight, self.down_bias)
        chosen = (weight.index_select(0, route) for weight in bank)
        return _feed_forward(h, *chosen, dropout=dropout, key=key, site=site)


class UserNetwork(nn.Module):
    """UserFFN: each user's private network, one row per user; it starts as the zero function."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.up_weight = nn.Parameter(_uniform(1, dim, inner, fan_in=dim))
        self.up_bias = nn.Parameter(torch.zeros(1, inner))
        self.down_weight = nn.Parameter(torch.zeros(1, inner, dim))
        self.down_bias = nn.Parameter(torch.zeros(1, dim))

    def forward(self, h: Tensor, *, dropout: float, key: Tensor | None, site: int) -> Tensor:
        """(B, W, L, d) -> (B, W, L, d); the parameters hold one row for all users, or B rows."""
        own = (self.up_weight, self.up_bias, self.down_weight, self.down_bias)
        rows = (weight.expand(len(h), *weight.shape[1:]) for weight in own)
        return _feed_forward(h, *rows, dropout=dropout, key=key, site=site)


def _feed_forward(
    h: Tensor,
    up_weight: Tensor,  # (B, d, inner)
    up_bias: Tensor,  # (B, inner)
    down_weight: Tensor,  # (B, inner, d)
    down_bias: Tensor,  # (B, d)
    *,
    dropout: float,
    key: Tensor | None,
    site: int,
) -> Tensor:
    flat = h.flatten(1, 2)  # (B, W L, d)
    inner = F.relu(torch.baddbmm(up_bias.unsqueeze(1), flat, up_weight))  # (B, W L, inner)
    inner = keyed_dropout(inner.unflatten(1, h.shape[1:3]), dropout, key, site).flatten(1, 2)
    return torch.baddbmm(down_bias.unsqueeze(1), inner, down_weight).view_as(h)


def _uniform(*shape: int, fan_in: int) -> Tensor:
    bound = 1.0 / math.sqrt(fan_in)
    return torch.empty(*shape).uniform_(-bound, bound)

"""What a backbone is, and how one splits a position into heads."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """A module that lets position t of a history attend to the positions up to t only."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d), causal along L."""
        ...

    def floats_per_position(self, length: int) -> int:
        """About how many numbers a training step keeps per position of a window of ``length``."""
        ...


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(N, L, d) -> (N, H, L, d/H)."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(N, H, L, d/H) -> (N, L, d)."""
    return x.transpose(1, 2).flatten(2)

"""What the local training of a chunk of users gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from client_app.training import Tensors


class Outcome(NamedTuple):
    """B users after their local steps."""

    update: Tensors | None  # sum over users of weight * (new - old); None: it is not finite
    private: Tensors  # (B, ...) each, new
    routes: Tensor  # (B, layers) int64, of the first step
    visited: Tensor  # (B, layers, K) bool, experts chosen in any step
    bce: Tensor  # (B,) summed over the targets, first step
    finite: Tensor  # (B,) bool; an ``update`` that is there holds these users only


def visited_experts(routes: Tensor, num_experts: int) -> Tensor:
    """Routes (B, layers) as (B, layers, K) bool."""
    return torch.nn.functional.one_hot(routes, num_experts).bool()

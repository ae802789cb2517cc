"""What the local training of a chunk of users gives, before a mechanism adds it up.

PyTorch is not imported for it: what a node answers in secure sums needs the sums alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class Outcome(NamedTuple):
    """B users after their local steps.

    ``update`` is there where a sum was asked for, ``changes`` where each user was. An ``update``
    that would hold somebody's non-finite numbers is None: the others are to be trained once more.
    """

    update: Tensors | None  # sum over users of weight * (new - old)
    changes: Tensors | None  # (B, n) each, new minus old, flattened
    private: Tensors  # (B, ...) each, new
    routes: Tensor  # (B, layers) int64, of the first step
    visited: Tensor  # (B, layers, K) bool, experts chosen in any step
    bce: Tensor  # (B,) summed over the targets, first step
    finite: Tensor  # (B,) bool; an ``update`` that is there holds these users only


@dataclass(frozen=True)
class Chunk:
    """An outcome, and what is known of its B users beside it."""

    outcome: Outcome
    weights: np.ndarray  # (B,) float64
    targets: np.ndarray  # (B,) how many each user has
    before: np.ndarray  # (B, layers) routes of their last training, -1 unknown


def visited_experts(routes: Tensor, num_experts: int) -> Tensor:
    """Routes (B, layers) as (B, layers, K) bool."""
    from torch.nn.functional import one_hot  # heavy: see above

    return one_hot(routes, num_experts).bool()

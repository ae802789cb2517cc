"""What a head of clicks is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from mrff_model.dropout import Dropout

FEEDBACK_CODES = 3  # of a history item: none, label 0, label 1


@dataclass(frozen=True)
class HeadSizes:
    """Widths of what there is to read.

    Args:
        start: of every column without parameters, what it counts in an additive model.
        has_path: whether these columns also reach the logit by a linear path.
        has_feedback: whether the history has labels.
    """

    states: int
    items: int
    users: int
    inner: int
    start: tuple[float, ...]
    has_path: bool
    has_feedback: bool


class Seen(NamedTuple):
    """What a head may read of targets (B, W, T)."""

    states: Tensor  # (B, W, T or 1, d) of the history before each
    targets: Tensor  # (B, W, T, item width)
    users: Tensor  # (B, W, T or 1, user width)
    inputs: list[Tensor]  # (B, W, T or 1, R) each, without parameters of their own
    history: Tensor  # (B, W, L, item width)
    feedback: Tensor  # (B, W, L) its codes, where the history has labels
    is_item: Tensor  # (B, W, L) bool, where there is a history item
    newest: bool  # targets follow the whole history; else target t follows the positions to t


class Head(nn.Module):
    """One head."""

    reads_states: ClassVar[bool]
    """Otherwise the network has no layers, and their parameters are neither trained nor sent."""
    reads_items: ClassVar[bool]
    """Whether it reads embeddings of items and users; otherwise there are none."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()

    def forward(self, seen: Seen, dropout: Dropout) -> Tensor:
        """The logits (B, W, T)."""
        raise NotImplementedError

    def floats_per_position(self, length: int) -> int:
        """See `mrff_model.backbones.base.Backbone`."""
        raise NotImplementedError

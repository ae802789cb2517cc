"""What goes into the network and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Records of B users; see `mrff.data.windows.Records` for the meaning of each field."""

    items: Tensor  # (B, W, L) int64
    feedback: Tensor  # (B, W, L) int64
    targets: Tensor  # (B, W, L) int64
    labels: Tensor  # (B, W, L) float32
    mask: Tensor  # (B, W, L) bool, where the target counts
    real: Tensor  # (B, W, L) bool, where the position exists
    user_codes: Mapping[str, Tensor]  # user features, (B,) each, or (B, M)
    earlier: tuple[Tensor, ...] = ()  # (B, E) items before the first window, or nothing
    drawn: tuple[Tensor, ...] = ()  # (B, N) items that targets are compared with, or nothing
    times: tuple[Tensor, ...] = ()  # (B, W, L) int64 of the targets, or nothing; 0 at padding
    counted: tuple[Tensor, ...] = ()  # (B, W, L) bool, of history items and of targets: whether
    # their row is in `mrff_model.item_statistics`; or nothing: none is
    past: tuple[Tensor, ...] = ()  # (B, E) of rows before the first window: items, feedback,
    # and whether they are counted; or nothing

    def with_fields(self, fields: Mapping[str, tuple[Tensor, ...]]) -> Batch:
        """The batch with some of the fields that may be nothing."""
        return Batch(**{**self._asdict(), **fields})

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``change`` done to each of its tensors."""
        codes = {name: change(field) for name, field in self.user_codes.items()}
        optional = (tuple(map(change, fields)) for fields in self[7:])
        return Batch._make([*(change(field) for field in self[:6]), codes, *optional])


class Targets(NamedTuple):
    """The items asked about: in training T = L, one after each position."""

    items: Tensor  # (B, W, T) int64
    embedded: Tensor  # (B, W, T, item width)
    rates: list[Tensor]  # (B, W, T or 1, R) the user's own rates, and public ones; or nothing


class Before(NamedTuple):
    """What comes before targets."""

    items: Tensor  # (B, W, L, item width) of the history
    batch: Batch
    newest: bool  # all targets follow the whole window


class Output(NamedTuple):
    """What the network says of a batch."""

    logits: Tensor  # (B, W, L) of a click on the target; 0 without such a head
    surprise: Tensor  # (B, W, L) of the target as the next item, in nats; 0 without such a head
    scores: Tensor  # (B, P, items) of items 1, 2, ... as the next; P is 0 where nobody asked
    routes: Tensor  # (B, layers) int64, the chosen expert
    chosen: Tensor  # (B, layers), its probability

"""What inputs of the head may know of a target: rows before it, and what is public of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mrff_model.batch import Batch
from mrff_model.item_statistics import ItemStatistics


@dataclass(frozen=True)
class Rows:
    """Interactions of users, (B, ...) each; what does not exist is item 0.

    Args:
        counted: 1 where the row is part of `ItemStatistics.rates`.
    """

    items: Tensor
    labels: Tensor
    counted: Tensor

    @classmethod
    def of(cls, items: Tensor, feedback: Tensor, counted: Tensor) -> Rows:
        """Rows by their feedback codes, 1 + label."""
        return cls(items, (feedback == 2).float(), counted.float())

    @property
    def real(self) -> Tensor:
        """1 where a row exists."""
        return (self.items > 0).float()

    def residuals(self, statistics: ItemStatistics) -> Tensor:
        """As there; 0 where no row is."""
        return self.real * statistics.residuals(self.items, self.labels, self.counted)


@dataclass(frozen=True)
class Known:
    """Targets (B, W, T) and what came before them.

    Args:
        newest: every target follows the whole window, and nothing is known of it. Otherwise T = L,
            and target t follows the history items 0..t.
        history_codes, target_codes, sizes: of the features compared, see `own_rates`.
    """

    statistics: ItemStatistics
    batch: Batch
    targets: Tensor
    newest: bool
    history_codes: Mapping[str, Tensor]
    target_codes: Mapping[str, Tensor]
    sizes: Mapping[str, int]

    @cached_property
    def history(self) -> Rows:
        """(B, W, L), what each position shows; nothing at the start of a window."""
        batch = self.batch
        counted = batch.counted[0] if batch.counted else torch.zeros_like(batch.items)
        return Rows.of(batch.items, batch.feedback, counted)

    @cached_property
    def asked(self) -> Rows:
        """(B, W, T), the targets; a newest one has no label, and is in no sum."""
        if self.newest or not self.batch.counted:
            nothing = torch.zeros_like(self.targets, dtype=torch.float32)
            return Rows(self.targets, nothing, nothing)
        return Rows(self.targets, self.batch.labels, self.batch.counted[1].float())

    @cached_property
    def past(self) -> Rows:
        """(B, E), the rows before the first window."""
        if self.batch.past:
            return Rows.of(*self.batch.past)
        nothing = self.batch.items.new_zeros(len(self.batch.items), 0)
        return Rows.of(nothing, nothing, nothing)

    @cached_property
    def residuals(self) -> Tensor:
        """(B, W, L) of the history."""
        return self.history.residuals(self.statistics)


def sums_before(values: Tensor) -> Tensor:
    """Of windows (B, W, ...), the sums over the windows before each; nothing of itself is in it."""
    before = torch.zeros_like(values)
    before[:, 1:] = values[:, :-1].cumsum(1)
    return before

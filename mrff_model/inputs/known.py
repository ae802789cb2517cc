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
class InputShape:
    """Which columns there are.

    Args:
        features: names of item features that are compared.
        dim: width of items' vectors; 0: there are none.
        kinds: whether others' liking of a target's kinds is read.
    """

    features: tuple[str, ...]
    dim: int
    kinds: bool


@dataclass(frozen=True)
class KnownRows:
    """Interactions of users, (B, ...) each; what does not exist is item 0.

    Args:
        counted: 1 where the row is part of `ItemStatistics.rates`.
    """

    items: Tensor
    labels: Tensor
    counted: Tensor

    @classmethod
    def of(cls, items: Tensor, feedback: Tensor, counted: Tensor) -> KnownRows:
        """KnownRows by their feedback codes, 1 + label."""
        return cls(items, (feedback == 2).float(), counted.float())

    @property
    def real(self) -> Tensor:
        """1 where a row exists."""
        return (self.items > 0).float()

    def residuals(self, statistics: ItemStatistics) -> Tensor:
        """As there; 0 where no row is."""
        return self.real * statistics.residuals(self.items, self.labels, self.counted)


@dataclass(frozen=True)
class KnownBefore:
    """Targets (B, W, T) and what came before them.

    Args:
        until: (L,) or (B, W, L), the last position whose feedback target t knows; T = L. None:
            every target follows the whole window, and nothing is known of it.
        history_codes, target_codes, sizes: of the features compared, see `own_rates`.
        catalogue: codes of all items by them, see `mrff_model.features.DatasetFeatures`.
        alone: whether nothing outside of a target's window may be read.
    """

    statistics: ItemStatistics
    batch: Batch
    targets: Tensor
    until: Tensor | None
    history_codes: Mapping[str, Tensor]
    target_codes: Mapping[str, Tensor]
    sizes: Mapping[str, int]
    catalogue: Mapping[str, Tensor]
    alone: bool = False

    @property
    def newest(self) -> bool:
        """Whether targets follow the whole window."""
        return self.until is None

    @cached_property
    def history(self) -> KnownRows:
        """(B, W, L), what each position shows; nothing at the start of a window."""
        batch = self.batch
        counted = batch.counted[0] if batch.counted else torch.zeros_like(batch.items)
        return KnownRows.of(batch.items, batch.feedback, counted)

    @cached_property
    def asked(self) -> KnownRows:
        """(B, W, T), the targets; a newest one has no label, and is in no sum."""
        if self.newest or not self.batch.counted:
            nothing = torch.zeros_like(self.targets, dtype=torch.float32)
            return KnownRows(self.targets, nothing, nothing)
        return KnownRows(self.targets, self.batch.labels, self.batch.counted[1].float())

    @cached_property
    def past(self) -> KnownRows:
        """(B, E), the rows before the first window, as far as they may be read."""
        return self._before_windows(not self.alone)

    @cached_property
    def own(self) -> KnownRows:
        """(B, R), all rows of the user that may be in public sums, to be taken out of them."""
        return self.after(self._before_windows())

    def after(self, before: KnownRows) -> KnownRows:
        """(B, R), rows ``before`` the windows (B, E) and all of theirs."""
        last = self.history if self.newest else self.asked
        fields = (
            torch.cat([getattr(rows, name).flatten(1) for rows in (before, last)], dim=1)
            for name in ("items", "labels", "counted")
        )
        return KnownRows(*fields)

    def _before_windows(self, are_read: bool = True) -> KnownRows:
        if self.batch.past and are_read:
            return KnownRows.of(*self.batch.past)
        nothing = self.batch.items.new_zeros(len(self.batch.items), 0)
        return KnownRows.of(nothing, nothing, nothing)

    @property
    def several(self) -> bool:
        """Whether windows follow windows whose rows are all known."""
        return self.targets.shape[1] > 1 and not self.alone

    def at_targets(self, column: Tensor) -> Tensor:
        """Of a column (B, W, L) over the history, what each target knows; (B, W, T or 1)."""
        if self.until is None:
            return column[..., -1:]
        return column if self.until.dim() == 1 else column.gather(-1, self.until)

    @cached_property
    def residuals(self) -> Tensor:
        """(B, W, L) of the history."""
        return self.history.residuals(self.statistics)


def sums_before(values: Tensor) -> Tensor:
    """Of windows (B, W, ...), the sums over the windows before each; nothing of itself is in it."""
    before = torch.zeros_like(values)
    before[:, 1:] = values[:, :-1].cumsum(1)
    return before

"""All numbers that a head of clicks reads of a target, beside states, item and user."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrff_model.batch import Batch
from mrff_model.features import ItemTower
from mrff_model.inputs import InputShape, KnownBefore, inputs_of, starts_of
from mrff_model.item_statistics import ItemStatistics
from mrff_model.own_rates import number_of_rates, own_rates, own_starts
from mrff_model.same_time import SAME_TIME
from mrff_model.shape import NetworkShape
from mrff_model.time_columns import TIME_COLUMNS, time_columns


@dataclass(frozen=True)
class HeadInputs:
    """They depend on no parameter that is trained.

    Args:
        shape: whose switches say which there are.
        compared: item features by which rows are of one kind.
        tower: knows the features' codes.
        statistics: of items; None: they are not read.
    """

    shape: NetworkShape
    compared: tuple[str, ...]
    tower: ItemTower
    statistics: ItemStatistics | None

    @property
    def wanted(self) -> InputShape:
        """What is read of items' statistics."""
        shape = self.shape
        return InputShape(self.compared, shape.closed_form_factors, shape.kind_statistics)

    @property
    def start(self) -> list[float]:
        """What each counts in the logit before anything is learned, (R,)."""
        rates = number_of_rates(self.compared) if self.shape.history_rates else 0
        clock = [0.0] * TIME_COLUMNS if self.shape.time_inputs else []
        if self.statistics is None:
            return [*own_starts(rates), *clock]
        public = starts_of(self.wanted)
        return [*[0.0] * rates, *public, *clock]

    def of(self, batch: Batch, targets: Tensor, *, newest: bool) -> list[Tensor]:
        """What the user liked so far, of the targets' kinds, what others did, and the clock.

        Args:
            targets: (B, W, T) items.
            newest: they follow the whole window; otherwise each follows its own position.

        Returns:
            (B, W, T or 1, R) each, or nothing.
        """
        rule, sizes = SAME_TIME[self.shape.same_time], self.tower.sizes
        found, until = [], None if newest else rule.known_until(batch)
        if self.shape.history_rates or self.statistics is not None:
            history = self.tower.codes(batch.items, self.compared)
            wanted = self.tower.codes(targets, self.compared)
        if self.shape.history_rates:
            found.append(own_rates(batch.feedback, history, wanted, until=until, sizes=sizes))
        if self.statistics is not None:
            known = KnownBefore(
                self.statistics, batch, targets, until, history, wanted, sizes,
                self.tower.catalogue(self.compared), alone=not rule.reads_other_windows,
            )  # fmt: skip
            columns = inputs_of(known, self.wanted)
            found.append(torch.stack([c.expand(targets.shape) for c in columns], dim=-1))
        if self.shape.time_inputs:
            found.append(time_columns(batch, newest=newest))
        return found

    def floats_per_position(self) -> int:
        """About how many numbers they keep per position (of a window padded to L)."""
        floats, kinds = 0, 1 + len(self.compared)
        if self.shape.history_rates:
            floats += 16 * kinds
        if self.statistics is not None:
            floats += (16 + 16 * self.shape.kind_statistics) * kinds
            floats += 8 * self.shape.closed_form_factors + 4 * self.shape.window_length
        return floats

"""How long after the item before it each past item came, as part of the history.

A state that knows if the last item came in the same second as the one before, or after months,
tells a page of ratings that goes on from a new visit. When the answer is asked for is not read:
nobody knows the time of a row that is yet to come.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.batch import Batch
from mrff_model.time_columns import DAY, TICKS

# Seconds: a gap of less than the first is one moment, of at least the last half a year.
EDGES = (1, 10, 30, 60, 300, 3_600, 6 * 3_600, DAY, 7 * DAY, 30 * DAY, 180 * DAY)
UNKNOWN = 0  # code of an item without one before it in its window, or without a time


class HistoryTimes(nn.Module):
    """An embedding of the span that a past item's gap is in; it begins at 0, as if not read.

    Args:
        dim: d, width of a position.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        rows = torch.zeros(len(EDGES) + 2, dim)
        self.table = nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=UNKNOWN)

    def forward(self, batch: Batch) -> Tensor:
        """(B, W, L, d) of the history items of each position.

        Raises:
            ValueError: the batch has no times.
        """
        return self.table(gap_codes(batch))


def gap_codes(batch: Batch) -> Tensor:
    """(B, W, L) int64 codes of the history's gaps: 1 + the number of `EDGES` that each reaches.

    Times are those of targets, so that the item at position p came at the time of target p - 1.
    A gap below 0, as a wrong clock gives it, counts as none. Items of the first second of 1970 are
    those of somebody whose times are not known.
    """
    if not batch.times:
        raise ValueError("network.history-times=true needs the times of the targets in a batch")
    (times,) = batch.times
    gap = (times[..., 1:] - times[..., :-1]).clamp(min=0)
    edges = torch.tensor(EDGES, dtype=torch.int64, device=times.device) * TICKS
    spans = 1 + (gap.unsqueeze(-1) >= edges).sum(-1)
    of_targets = F.pad(torch.where(times[..., :-1] >= TICKS, spans, UNKNOWN), (1, 0))
    return torch.where(batch.items > 0, F.pad(of_targets, (1, 0))[..., :-1], UNKNOWN)

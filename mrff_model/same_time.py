"""Which labels of the history are known when a target is predicted (``data.same-time``).

People rate a page of films at once: many rows carry the timestamp of the row before. What is known
of them when one of them is predicted is a rule, and everything that reads feedback follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.batch import Batch


class TimeRule(Protocol):
    """What targets know of the feedback before them."""

    reads_other_windows: bool  # an earlier window may end at the time of this one's targets

    def feedback(self, batch: Batch) -> Tensor:
        """(B, W, L) codes that a causal network may read at each position."""
        ...

    def known_until(self, batch: Batch) -> Tensor:
        """(L,) or (B, W, L) int64, the last position whose feedback each target knows.

        All of the earlier ones are known, too.
        """
        ...


class LabelsKnown:
    """The label of every row before the target, as in the literature."""

    reads_other_windows = True

    def feedback(self, batch: Batch) -> Tensor:
        """See `TimeRule.feedback`."""
        return batch.feedback

    def known_until(self, batch: Batch) -> Tensor:
        """See `TimeRule.known_until`."""
        return torch.arange(batch.feedback.shape[-1], device=batch.feedback.device)


class LabelsUnknown:
    """Labels of rows of an earlier time than the target's.

    Rows are in order of time, so that a label shown at position t, because its row is earlier than
    target t, is earlier than every later target as well: causal attention carries it to nobody who
    must not know it.
    """

    reads_other_windows = False

    def feedback(self, batch: Batch) -> Tensor:
        """See `TimeRule.feedback`: none where the target has the time of the row before it."""
        return batch.feedback * self._is_later(batch)

    def known_until(self, batch: Batch) -> Tensor:
        """See `TimeRule.known_until`: the position of the first target of the same time."""
        is_later = self._is_later(batch)
        places = torch.arange(is_later.shape[-1], device=is_later.device)
        return (places * is_later).cummax(-1).values

    def _is_later(self, batch: Batch) -> Tensor:
        """(B, W, L) whether the target is later than the one before it."""
        if not batch.times:
            raise ValueError("data.same-time=unknown needs the times of the targets in a batch")
        (times,) = batch.times
        return F.pad(times[..., 1:] > times[..., :-1], (1, 0), value=True)


SAME_TIME: Mapping[str, TimeRule] = {"known": LabelsKnown(), "unknown": LabelsUnknown()}

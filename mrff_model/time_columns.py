"""What the clock says of a target: how long after the user's row before, and at what hour.

Boosted trees with history live on such columns as well, MovieLens above all, where films are rated
page by page. Nothing here reads a label, and nothing of another window, so that a record stays a
record (`mrff.data.windows`). There are no parameters.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from mrff_model.batch import Batch

TICKS = 1_000_000_000  # of a second: times are nanoseconds since 1970, UTC
DAY = 86_400
# Seconds: a gap of less than the first is one moment, of at least the last a long absence.
GAP_EDGES = (1, 60, 3_600, DAY, 30 * DAY)
TIME_COLUMNS = len(GAP_EDGES) + 5  # C
LOG_SCALE = 1 / 16  # of log(1 + seconds), which reaches 18 after three years


def time_columns(batch: Batch, *, newest: bool) -> Tensor:
    """The columns of every target, without gradient.

    The target's gap is the time since the row before it in the window; what lies before a window
    is not read. A gap below 0, as a wrong clock gives it, counts as none.

    Args:
        batch: with times, the last one being now where ``newest``.
        newest: every target is asked for after the whole window. Otherwise T = L.

    Returns:
        (B, W, T, C), where T is 1 for the newest: for each span between `GAP_EDGES`, the open ones
        at both ends included, whether the gap is in it (all 0 for a window's first target); the
        gap, and the time since the window's first row, logarithmic both; sine and cosine of the
        hour of day.
    """
    (times,) = batch.times
    places = torch.arange(times.shape[-1], device=times.device)
    gap = F.pad(_seconds(times[..., 1:] - times[..., :-1]), (1, 0))
    edges = torch.tensor(GAP_EDGES, dtype=gap.dtype, device=gap.device)
    span = (gap.unsqueeze(-1) >= edges).sum(-1)  # (B, W, L)
    numbers = torch.arange(len(GAP_EDGES) + 1, device=times.device)
    spans = ((span.unsqueeze(-1) == numbers) & (places > 0).unsqueeze(-1)).to(gap.dtype)
    since = _seconds(times - times[..., :1])
    angle = (2 * pi / DAY) * _seconds(times % (DAY * TICKS))
    logs = [LOG_SCALE * value.log1p() for value in (gap, since)]
    columns = torch.stack([*spans.unbind(-1), *logs, angle.sin(), angle.cos()], dim=-1)
    return columns[..., -1:, :] if newest else columns


def _seconds(ticks: Tensor) -> Tensor:
    """Of spans of time; none is below 0."""
    return (ticks.clamp(min=0).double() / TICKS).float()

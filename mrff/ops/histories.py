"""Histories of users as the network reads them where it answers, newest item last."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mrff_model.batch import Batch


def windows_of(items: Tensor, feedback: Tensor, user_codes: Mapping[str, Tensor]) -> Batch:
    """Histories (B, n), ``feedback`` being 1 + label, of users with codes (B, ...) or (1, ...)."""
    start = torch.zeros((items.shape[0], 1), dtype=torch.int64)
    window = torch.cat([start, items], dim=1)[:, None]  # (B, 1, n + 1)
    nothing = torch.zeros_like(window)
    return Batch(
        items=window,
        feedback=torch.cat([start, feedback], dim=1)[:, None],
        targets=nothing,
        labels=nothing.to(torch.float32),
        mask=nothing > 0,
        real=nothing == 0,
        user_codes={n: c.expand(items.shape[0], *c.shape[1:]) for n, c in user_codes.items()},
    )


def with_times(histories: Batch, times: np.ndarray) -> Batch:
    """The windows (B, 1, n + 1) with the times (B, n) of their items, and that of the question."""
    return histories._replace(times=(torch.from_numpy(asked_after(times))[:, None],))


def asked_after(times: np.ndarray) -> np.ndarray:
    """Times of histories (B, n), and when an answer is asked for: (B, n + 1).

    That is as long after the last item as the user's median pause between two moments, so that
    somebody who was away for years is answered as on their usual day. It is later than all items:
    every label is known.
    """
    now = np.ones((len(times), 1), dtype=np.int64)
    for row, pauses in enumerate(np.diff(times, axis=1)):
        if pauses.any():
            now[row] = int(np.median(pauses[pauses > 0]))
    now += times[:, -1:].sum(axis=1, keepdims=True)
    return np.concatenate([times, now], axis=1)

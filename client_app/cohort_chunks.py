"""Cuts a cohort into chunks: users of similar length together, no chunk beyond its memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

from mrff_config import DataSettings
from mrff_data.dataset import Dataset

Done = TypeVar("Done")
logger = logging.getLogger(__name__)


def record_sizes(dataset: Dataset, users: np.ndarray, data: DataSettings) -> np.ndarray:
    """(U, 2) windows and positions per window of each user's training records, unpadded."""
    targets = np.diff(dataset.offsets)[users] - 2 * data.holdout
    windows = -(-targets // data.window_length)
    if data.max_windows_per_user:
        windows = np.minimum(windows, data.max_windows_per_user)
    return np.stack([windows, np.minimum(targets, data.window_length)], axis=1)


def chunks_of(sizes: np.ndarray, *, positions: int, users: int) -> list[np.ndarray]:
    """Rows of users, grouped by size so that little padding is computed.

    Args:
        sizes: (U, 2) windows and positions of each user.
        positions: most padded positions of a chunk; a longer user is a chunk of his own.
        users: most users of a chunk.
    """
    order = np.lexsort((sizes[:, 1], sizes[:, 0]))
    chunks, first = [], 0
    while first < len(order):
        ahead = sizes[order[first : first + users]]
        padded = np.maximum.accumulate(ahead).prod(axis=1) * np.arange(1, len(ahead) + 1)
        count = max(1, int(np.searchsorted(padded, positions, side="right")))
        chunks.append(order[first : first + count])
        first += count
    return chunks


def compute(
    chunks: list[np.ndarray], work: Callable[[np.ndarray], Done]
) -> Iterator[tuple[np.ndarray, Done]]:
    """Yields each chunk with what ``work`` makes of it; one that does not fit memory is halved.

    Raises:
        MemoryError, RuntimeError: a single user does not fit, or ``work`` fails otherwise.
    """
    waiting = chunks[::-1]
    while waiting:
        rows = waiting.pop()
        try:
            done = work(rows)
        except (MemoryError, RuntimeError) as error:
            if len(rows) == 1 or not _is_lack_of_memory(error):
                raise
            logger.warning(
                "a chunk of %d users does not fit memory and is halved; lower cohort-memory-mb "
                "to avoid this (%s)",
                len(rows),
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
        else:
            yield rows, done
            continue
        middle = len(rows) // 2
        waiting += [rows[middle:], rows[:middle]]


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)

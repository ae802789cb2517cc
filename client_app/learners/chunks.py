"""Cuts a cohort into chunks: users of similar length together, no chunk beyond its memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from mrff.config import DataSettings
from mrff.data.dataset import Dataset
from mrff.data.windows import train_sizes

Ready = TypeVar("Ready")
Done = TypeVar("Done")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkLimits:
    """How large a chunk may become; a single user is always one, however large."""

    positions: int  # padded positions: beyond, a CPU's cache is too small and every step slower
    memory: int  # bytes
    memory_per_position: int
    memory_per_user: int


def training_sizes(dataset: Dataset, users: np.ndarray, data: DataSettings) -> np.ndarray:
    """(U, 2) windows and positions per window of each user's training records, unpadded."""
    targets = train_sizes(dataset, users, holdout=data.holdout)
    windows = -(-targets // data.window_length)
    if data.max_windows_per_user:
        windows = np.minimum(windows, data.max_windows_per_user)
    return np.stack([windows, np.minimum(targets, data.window_length)], axis=1)


def chunks_of(sizes: np.ndarray, limits: ChunkLimits) -> list[np.ndarray]:
    """Rows of users, grouped by size so that little padding is computed.

    Args:
        sizes: (U, 2) windows and positions of each user.
    """
    order = np.lexsort((sizes[:, 1], sizes[:, 0]))
    most = max(1, limits.memory // max(1, limits.memory_per_user))
    chunks, first = [], 0
    while first < len(order):
        ahead = sizes[order[first : first + min(most, limits.positions)]]
        number = np.arange(1, len(ahead) + 1)
        positions = np.maximum.accumulate(ahead).prod(axis=1) * number
        memory = positions * limits.memory_per_position + number * limits.memory_per_user
        fits = (positions <= limits.positions) & (memory <= limits.memory)
        count = max(1, int(fits.sum()))
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
                "a chunk of %d users does not fit memory and is halved (%s)",
                len(rows),
                str(error).partition("\n")[0] or type(error).__name__,
            )
        else:
            yield rows, done
            continue
        middle = len(rows) // 2
        waiting += [rows[middle:], rows[:middle]]


def compute_ahead(
    chunks: list[np.ndarray],
    prepare: Callable[[np.ndarray], Ready],
    work: Callable[[np.ndarray, Ready], Done],
    device: torch.device,
) -> Iterator[tuple[np.ndarray, Done]]:
    """As `compute`, where ``work`` takes what ``prepare`` has made of a chunk.

    With a GPU, the host prepares the next chunk while the device computes this one; on a CPU, which
    does both, one comes after the other.

    Raises:
        MemoryError, RuntimeError: see `compute`; what ``prepare`` raises.
    """
    if device.type == "cpu":
        yield from compute(chunks, lambda rows: work(rows, prepare(rows)))
        return
    following = {id(rows): after for rows, after in pairwise(chunks)}
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-chunk") as host:
        coming: dict[int, Future[Ready]] = {}

        def both(rows: np.ndarray) -> Done:
            ready = coming.pop(id(rows)).result() if id(rows) in coming else prepare(rows)
            after = following.get(id(rows))
            if after is not None:
                coming[id(after)] = host.submit(prepare, after)
            return work(rows, ready)

        yield from compute(chunks, both)


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)

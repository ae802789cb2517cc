"""Chunks of a cohort side by side on a CPU, each on a thread of its own.

A small network's products are too small to be shared out among threads, which then wait for one
another. PyTorch computes without the interpreter's lock, so that chunks can be computed at once
instead (docs/performance.md). What a chunk gives does not depend on what is computed beside it.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch

from client_app.learners.chunks import compute, compute_ahead
from client_app.learners.own_copies import quiet_vmap
from mrff_model.network import MRFFNetwork

Ready = TypeVar("Ready")
Done = TypeVar("Done")


def chunks_at_once(device: torch.device) -> int:
    """How many chunks a device computes at once, at most."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def compute_at_once(
    chunks: list[np.ndarray],
    network: MRFFNetwork,
    prepare: Callable[[np.ndarray], Ready],
    work: Callable[[MRFFNetwork, np.ndarray, Ready], Done],
) -> Iterator[tuple[np.ndarray, Done]]:
    """As `compute_ahead`, in the same order, where ``work`` is given a network to itself.

    On a CPU as many chunks are computed at once as PyTorch has threads; no more results wait than
    that, so that memory is bounded.

    Raises:
        MemoryError, RuntimeError: see `compute_ahead`.
    """
    device = next(network.parameters()).device
    threads = min(chunks_at_once(device), len(chunks))
    if threads <= 1:
        yield from compute_ahead(chunks, prepare, partial(work, network), device)
        return
    networks: SimpleQueue[MRFFNetwork] = SimpleQueue()
    for _ in range(threads):
        networks.put(replica(network))

    def task(rows: np.ndarray) -> list[tuple[np.ndarray, Done]]:
        own = networks.get()
        try:
            return list(compute([rows], lambda some: work(own, some, prepare(some))))
        finally:
            networks.put(own)

    everywhere = torch.get_num_threads()
    begin = partial(torch.set_num_threads, everywhere // threads)
    coming: deque[Future[list[tuple[np.ndarray, Done]]]] = deque()
    try:
        with quiet_vmap(), ThreadPoolExecutor(threads, "chunk", begin) as pool:
            for rows in chunks:
                coming.append(pool.submit(task, rows))
                if len(coming) > threads:
                    yield from coming.popleft().result()
            while coming:
                yield from coming.popleft().result()
    finally:
        torch.set_num_threads(everywhere)  # where threads to come begin is what was said last


def replica(network: MRFFNetwork) -> MRFFNetwork:
    """A network around the same parameters and buffers: a call may put others in their place."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)

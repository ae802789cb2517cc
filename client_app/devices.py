"""Where a node computes, on its CPU or on its GPU, and how much memory that may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mrff.config import ConfigError, TrainingSettings

HOST_MOST, HOST_SHARE = 512 * 2**20, 8  # more is not faster: a CPU's cache limits chunks before
GPU_MOST, GPU_SHARE = 8 * 2**30, 4  # a GPU wants large chunks (docs/performance.md)
_MEMINFO = Path("/proc/meminfo")


def device_for(training: TrainingSettings) -> torch.device:
    """The device that ``training.device`` names.

    Raises:
        ConfigError: ``training.device = cuda`` where PyTorch sees no GPU.
    """
    if training.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if training.device == "cuda":
        raise ConfigError(
            "training.device=cuda, but PyTorch sees no GPU here; use training.device=auto or cpu"
        )
    return torch.device("cpu")


@contextmanager
def multiplying(device: torch.device, precision: str) -> Iterator[None]:
    """Matrix products are rounded as ``training.precision`` says, meanwhile.

    tf32 keeps 10 bits of a factor, on a GPU alone; bf16 keeps 7 of factors and products, on a CPU
    as well. What is stored, added up over users and sent stays in float32.
    """
    if precision == "bf16":  # no cache: under `torch.func` a weight is another one in every call
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    if precision == "tf32" and device.type == "cuda":
        products.fp32_precision = precision
    try:
        yield
    finally:
        products.fp32_precision = before


def moved(field: Tensor, device: torch.device) -> Tensor:
    """``field`` on the device; to a GPU through pinned memory, so that the host goes on meanwhile.

    On a CPU it is what it was, without a copy.
    """
    if device.type != "cuda" or field.device.type != "cpu":
        return field.to(device)
    return field.pin_memory().to(device, non_blocking=True)


def chunk_memory(device: torch.device) -> int:
    """Bytes that training a chunk of users may take: a bounded share of what is free there.

    No result depends on it but in the last bits.
    """
    if device.type != "cuda":
        return host_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return min(GPU_MOST, free // GPU_SHARE)


def host_memory() -> int:
    """The same of the host, where private parameters lie; Linux says how much is free."""
    free = free_memory()
    return HOST_MOST if free is None else min(HOST_MOST, free // HOST_SHARE)


def free_memory() -> int | None:
    """Bytes that new programs could have; None where it is not Linux."""
    if not _MEMINFO.is_file():
        return None
    numbers = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    return int(numbers["MemAvailable"].split()[0]) * 1024

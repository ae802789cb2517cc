"""Where a node computes: on its CPU, or on its GPU when it has one."""

from __future__ import annotations

import torch

from mrff.config import ConfigError, TrainingSettings


def device_for(training: TrainingSettings) -> torch.device:
    """The device of ``device`` and ``trainer``; the serial trainer always runs on the CPU.

    Raises:
        ConfigError: ``device = cuda`` where PyTorch sees no GPU.
    """
    if training.trainer == "serial" or training.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if training.device == "cuda":
        raise ConfigError("device=cuda, but PyTorch sees no GPU here; use device=auto or cpu")
    return torch.device("cpu")

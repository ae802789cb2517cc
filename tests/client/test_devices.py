"""Which device a node computes on."""

from __future__ import annotations

import pytest
import torch

from client_app.devices import device_for
from mrff.config import ConfigError
from tests.support.small_data import small_config


@pytest.mark.parametrize(
    ("trainer", "device", "has_gpu", "expected"),
    [
        ("cohort", "auto", True, "cuda"),
        ("cohort", "auto", False, "cpu"),
        ("cohort", "cpu", True, "cpu"),
        ("cohort", "cuda", True, "cuda"),
        ("serial", "auto", True, "cpu"),
    ],
)
def test_the_device_follows_setting_trainer_and_machine(
    trainer: str, device: str, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    config = small_config(trainer=trainer, device=device)
    assert device_for(config.training).type == expected


def test_asking_for_a_gpu_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda, but PyTorch sees no GPU"):
        device_for(small_config(device="cuda").training)

"""Which device a node computes on."""

from __future__ import annotations

import pytest
import torch

from client_app.devices import device_for, moved
from mrff.config import ConfigError
from tests.support.small_data import small_config


@pytest.mark.parametrize(
    ("device", "has_gpu", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_device_follows_setting_and_machine(
    device: str, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    config = small_config(device=device)
    assert device_for(config.training).type == expected


def test_asking_for_a_gpu_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda, but PyTorch sees no GPU"):
        device_for(small_config(device="cuda").training)


def test_on_a_cpu_nothing_is_copied() -> None:
    field = torch.arange(6.0)
    assert moved(field, torch.device("cpu")) is field


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool])
def test_on_a_gpu_values_are_the_same(kind: torch.dtype) -> None:
    field = torch.arange(1000).to(kind)
    there = moved(field, torch.device("cuda"))
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), field)
    assert moved(there, there.device) is there

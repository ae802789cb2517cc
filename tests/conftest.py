"""What all tests share: one thread for tiny networks, small prepared data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mrff_data.prepare import prepare


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny networks are slowed down by threads, above all when tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared synthetic dataset of 15 users."""
    folder = tmp_path_factory.mktemp("prepared") / "synthetic"
    prepare("synthetic", out=folder, options={"users": 15, "items": 20, "events_per_user": 24})
    return folder

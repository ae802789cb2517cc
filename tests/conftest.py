"""What all tests share: one thread for tiny networks, prepared data, places in workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mrff.data.prepare import prepare
from tests.support.trained import train_next_runs, train_small_run

pytest_plugins = ["tests.support.scheduling"]
# Other tests share the machine: an example's milliseconds say nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))


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


@pytest.fixture(scope="session")
def trained_home(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run ``small``."""
    home = tmp_path_factory.mktemp("home")
    train_small_run(small_data, home)
    return home


@pytest.fixture(scope="session")
def next_home(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished runs ``next``, ``both``, ``mixed`` and ``click``."""
    home = tmp_path_factory.mktemp("next")
    train_next_runs(small_data, home)
    return home


@pytest.fixture
def at_home(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where the command looks for it."""
    monkeypatch.setenv("MRFF_HOME", str(trained_home))
    return trained_home

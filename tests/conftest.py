"""What all tests share: one thread for tiny networks, prepared data, places in two workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mrff.data.prepare import prepare
from tests.support.trained import train_next_runs, train_small_run

DEPLOYMENT = "tests/deployment/"
# Other tests share the machine: an example's milliseconds say nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none; in parallel, says what begins first.

    First the deployments, which one worker runs; the others begin with the files that start no
    processes. A node, or Ray, that has a fifth of a slow core is given up before it has started.
    """
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not item.nodeid.startswith(DEPLOYMENT), item.path in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores, two to eight."""
    return min(max(len(os.sched_getaffinity(0)), 2), 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays on one worker, for the sake of what its tests share; so do all deployments.

    Flower starts a process for every message and takes the message back after 30 seconds. Where
    several deployments share two slow cores no process comes so far, and none ever ends.
    """
    from xdist.scheduler import LoadFileScheduling

    class OneDeploymentAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(DEPLOYMENT):
                return DEPLOYMENT
            scope: str = super()._split_scope(nodeid)
            return scope

    return OneDeploymentAtATime(config, log)


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

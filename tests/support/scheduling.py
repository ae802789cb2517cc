"""Which worker of pytest-xdist runs which test, and what begins first: hooks of ``conftest.py``."""

from __future__ import annotations

import os
from typing import Any

import pytest

DEPLOYMENT = "tests/deployment/"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In parallel, first the deployments, beside them the files that start no processes.

    A node, or Ray, that has a fifth of a slow core is given up before it has started.
    """
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

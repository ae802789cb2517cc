"""A Ray cluster of several raylets on this machine, which no other simulation finds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def ray_cluster(raylets: int) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` with one CPU on each raylet.

    In a folder of its own: Ray notes the newest cluster in its default one, and whatever calls
    ``ray.init()`` on this machine would join it. Sockets' paths must be short.
    """
    from ray.cluster_utils import Cluster  # heavy

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        wanted = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=wanted)
        try:
            for _ in range(raylets - 1):
                cluster.add_node(**wanted)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


def raylet_of(node: Any) -> int:
    """Its process."""
    (raylet,) = node.all_processes["raylet"]
    pid: int = raylet.process.pid
    return pid


def at_work(raylets: set[int]) -> set[int]:
    """The raylets with a worker that answers a message of Flower now."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_text(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended
            continue
        if title.startswith("ray::ClientAppActor.run") and parent in raylets:
            found.add(parent)
    return found


def environment(home: Path) -> dict[str, str]:
    """For ``mrff`` with its files in ``home``."""
    return {**os.environ, "MRFF_HOME": str(home)}

"""Waits for the nodes a run expects: they register one by one, also in Flower's simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import getLogger

from flwr.serverapp import Grid

SETTLING_SECONDS = 2.0  # without a new node, if their number is not known
POLL_SECONDS = 0.2
log = getLogger("flwr")


class MissingNodesError(RuntimeError):
    """The expected nodes did not come in time."""


def wait_for_nodes(
    grid: Grid,
    expected: int,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Returns the number of connected nodes once there are enough of them.

    Args:
        expected: how many; 0: at least one, and no new one for two seconds. Flower does not tell a
            ServerApp the size of its simulation; all of its nodes register in well under that.
        timeout: seconds.

    Raises:
        MissingNodesError: fewer nodes are connected in time.
    """
    began = last_change = clock()
    connected, announced = 0, False
    while True:
        found, now = len(list(grid.get_node_ids())), clock()
        if found != connected:
            connected, last_change = found, now
        settled = now - last_change >= SETTLING_SECONDS
        if connected >= expected if expected else connected and settled:
            log.info("%d nodes are connected", connected)
            return connected
        if now - began >= timeout:
            raise MissingNodesError(
                f"{connected} of {expected or 'at least 1'} expected nodes are connected after "
                f"node-wait-seconds={timeout:g}; start the missing nodes or lower expected-nodes"
            )
        if not announced:
            log.info("waiting for nodes: %d of %s", connected, expected or "all that register")
            announced = True
        sleep(POLL_SECONDS)

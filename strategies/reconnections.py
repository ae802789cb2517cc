"""Notices nodes that connected anew: Flower loses the message such a node had taken before.

A SuperNode that dies with a message and is back before the server looked while it was away leaves
no trace in its replies: no error is made, and the message is delivered to nobody again (Flower
1.41, ``get_message_ins`` marks it as delivered). But every connection has its time, and both of
Flower's engines tell it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flwr.serverapp import Grid

SECONDS_BETWEEN_LOOKS = 3.0


class Reconnections:
    """Which nodes have connected anew since this was made.

    Args:
        grid: Flower's engines both have ``get_nodes``; on one without it nothing is noticed.
    """

    def __init__(self, grid: Grid, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._grid = grid
        self._clock = clock
        self._connected_at = self._look()
        self._looked_at = clock()

    def new(self) -> set[int]:
        """Nodes that have connected anew since the last call; looks every few seconds only.

        A node that was never seen connected is not among them, nor one that is away.
        """
        if self._clock() - self._looked_at < SECONDS_BETWEEN_LOOKS:
            return set()
        before = self._connected_at
        now = self._look()
        self._connected_at, self._looked_at = {**before, **now}, self._clock()
        return {node for node, moment in now.items() if before.get(node, moment) != moment}

    def _look(self) -> dict[int, str]:
        get_nodes = getattr(self._grid, "get_nodes", None)
        if get_nodes is None:
            return {}
        return {node.node_id: node.last_activated_at for node in get_nodes()}

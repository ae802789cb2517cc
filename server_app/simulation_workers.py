"""Flower's simulation: whether this is one, and what becomes of work whose worker dies.

Flower 1.41 puts a dead worker back among the idle ones, where it fails every message that it is
given, at once, to the end of the run. Here a new worker takes its place, and the message is handed
on: a node starts a round from the versions before it, however often it is asked. Private names of
Flower's simulation are touched in this file alone; without them a simulation stops at its start.
"""

from __future__ import annotations

import sys
from logging import getLogger
from typing import Any

from flwr.serverapp import Grid

TRIES = 3  # of one message; one that has ended so many workers is at fault itself
_FLOWERS = "occurred. Message: "  # before the node's words, once more on every way
log = getLogger("flwr")


def in_simulation(grid: Grid) -> bool:
    """Whether nodes are simulated in this process; their engine takes a second to import."""
    return type(grid).__name__ == "InMemoryGrid"


def replace_dead_workers() -> None:
    """From now on, in Flower's simulation in this process; a second call changes nothing."""
    from flwr.clientapp.client_app import ClientAppException  # these bring Ray
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.simulation.ray_transport.ray_actor import BasicActorPool
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    backends: Any = RayBackend
    pools: Any = BasicActorPool
    answer, put_back = backends.process_message, pools.add_actor_back_to_pool
    if answer.__module__ == __name__:
        return
    deaths = (RayActorError, OutOfMemoryError)

    def answer_anew(*work: Any) -> Any:
        for tries_left in reversed(range(TRIES)):
            try:
                return answer(*work)
            except deaths as error:
                log.warning("a worker of the simulation has died: %s", _first_line(error))
                if not tries_left:
                    raise
            except RayTaskError as error:
                # What the node said. Ray's text is its trace, which the worker has logged.
                raise ClientAppException(str(error.cause).split(_FLOWERS)[-1]) from None
        return None

    def put_back_the_living(pool: Any, future: Any) -> None:
        if isinstance(sys.exception(), deaths):  # Flower calls this while it handles the failure
            pool._future_to_actor[future] = pool.create_actor_fn()
        put_back(pool, future)

    backends.process_message = answer_anew
    pools.add_actor_back_to_pool = put_back_the_living


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

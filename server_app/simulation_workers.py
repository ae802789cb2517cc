"""Flower's simulation: whether this is one, and what becomes of work whose worker dies.

Flower 1.41 puts a dead worker back among the idle ones, where it fails every message that it is
given, at once, to the end of the run. Here a new worker takes its place, and the message is handed
on: a node starts a round from the versions before it, however often it is asked. Where a machine of
a Ray cluster has gone there is no room for a new one: there are fewer workers then, and messages
wait for those. Private names of Flower's simulation are touched in this file alone; without them a
simulation stops at its start.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from logging import getLogger
from typing import Any

from flwr.serverapp import Grid

START_SECONDS = 120.0  # until a new worker has room and has started
IDLE_SECONDS = 0.5
TRIES = 3  # of one message; one that has ended so many workers is at fault itself
_FLOWERS = "occurred. Message: "  # before the node's words, once more on every way
log = getLogger("flwr")


class NoWorkersError(RuntimeError):
    """All workers of a simulation have died, and none can be started."""


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
    answer, put_back, submit = (
        backends.process_message, pools.add_actor_back_to_pool, pools.submit,
    )  # fmt: skip
    if answer.__module__ == __name__:
        return
    deaths = (RayActorError, OutOfMemoryError)

    def answer_anew(backend: Any, *work: Any) -> Any:
        tries = 0
        while True:
            workers = backend.num_workers
            try:
                return answer(backend, *work)
            except deaths as error:
                log.warning("a worker of the simulation has died: %s", _first_line(error))
                tries += backend.num_workers >= workers  # else its machine has gone, blameless
                if tries >= TRIES:
                    raise
            except RayTaskError as error:
                # What the node said. Ray's text is its trace, which the worker has logged.
                raise ClientAppException(str(error.cause).split(_FLOWERS)[-1]) from None

    def put_back_the_living(pool: Any, future: Any) -> None:
        if not isinstance(sys.exception(), deaths):  # Flower calls this while it handles a failure
            return put_back(pool, future)
        _end(pool._future_to_actor[future])
        worker = _replacement(pool)
        if worker is not None:
            pool._future_to_actor[future] = worker
            return put_back(pool, future)
        del pool._future_to_actor[future]
        pool.num_actors -= 1
        log.warning("no room for another one: %d workers are left", pool.num_actors)
        return None

    def submit_to_an_idle_one(pool: Any, *job: Any) -> Any:
        while True:
            try:
                return submit(pool, *job)
            except IndexError:  # none is idle: there were more when the run began
                if pool.num_actors <= 0:
                    raise NoWorkersError("no worker of the simulation is left") from None
                time.sleep(IDLE_SECONDS)

    backends.process_message = answer_anew
    pools.add_actor_back_to_pool = put_back_the_living
    pools.submit = submit_to_an_idle_one


def _replacement(pool: Any) -> Any:
    """A new worker that has started; None: the cluster has no room for as many as there were."""
    import ray  # heavy
    from flwr.simulation.ray_transport.ray_actor import pool_size_from_resources  # brings Ray

    worker = pool.create_actor_fn()
    ready = worker.__ray_ready__.remote()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if ray.wait([ready], timeout=IDLE_SECONDS)[0]:
            return worker  # or it is dead as well: then whoever gets it asks for another
        try:
            if pool_size_from_resources(pool.client_resources) < pool.num_actors:
                break
        except ValueError:  # there is no machine for even one
            break
    _end(worker)
    return None


def _end(worker: Any) -> None:
    """What does not answer may live, cut off from here: it would keep its processors."""
    import ray  # heavy

    with suppress(Exception):
        ray.kill(worker)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

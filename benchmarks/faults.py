"""What is lost when parts of a real federation are killed in the middle of a round?

    python benchmarks/faults.py --times 2

For every kind of fault: a SuperLink and two SuperNodes with TLS and authentication, ml-100k, faults
injected while a round is trained. Afterwards the shared parameters and every user's private ones
are compared with the same rounds in one process without any fault. Takes minutes: Flower believes
in a dead node for up to a minute.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from measuring import read_options, show

from mrff.data.prepare import prepare
from mrff.data.shard import shard
from tests.support import reference
from tests.support.deployment import Federation, Values, wait_for_request

NAME = "faults"
REPLY_SECONDS = 90.0


@dataclass(frozen=True)
class Fault:
    """What is killed, again and again.

    Args:
        inject: kills, and brings back what does not come by itself; is told which time it is.
        node: whose training shows that a round has begun, by the time.
        ends_run: the run is resumed afterwards; else it goes on.
    """

    inject: Callable[[Federation, int], None]
    node: Callable[[int], int] = lambda time: 0
    ends_run: bool = False


def node_under_new_id(federation: Federation, time: int) -> None:
    """A node dies; another key takes over its shard and its state."""
    federation.kill(f"node-{successor(time)}")
    federation.start_node(2 + time, config=federation.settings(0))


def successor(time: int) -> int:
    """The node that has the shard of node 0 after so many faults."""
    return 1 + time if time else 0


def node_under_its_id(federation: Federation, time: int) -> None:
    """A node dies and is started again until Flower takes it back."""
    federation.kill("node-0")
    federation.wait_until_online(0, 180.0)


def server_app(federation: Federation, time: int) -> None:
    """The process that aggregates dies."""
    federation.kill_server_app()


def superlink(federation: Federation, time: int) -> None:
    """The server dies with everything in it; it is started again."""
    federation.kill("superlink")
    federation.start_superlink()


KINDS = {
    "node, new id": Fault(node_under_new_id, node=successor),
    "node, same id": Fault(node_under_its_id),
    "ServerApp": Fault(server_app, ends_run=True),
    "SuperLink": Fault(superlink, ends_run=True),
}


def train_with_faults(federation: Federation, fault: Fault, settings: Values, times: int) -> int:
    """A run with a fault in every second round; how many rounds had to be done again."""
    run, again = federation.submit(name=NAME, **settings), 0
    for time in range(times):
        begun = 2 + 2 * time
        wait_for_request(federation, f"node-{fault.node(time)}", "train", begun)
        fault.inject(federation, time)
        if fault.ends_run:
            federation.control.wait(run, 180)
            again += begun - len(federation.rounds(NAME))
            run = federation.submit(resume=NAME, **settings)
        else:
            federation.completes_round(NAME, begun)
    federation.completes(run, 900.0)
    return again


def measure(kind: str, times: int, data: Path, shards: Path, folder: Path) -> dict[str, Any]:
    """Injects faults of one kind and counts what is missing afterwards."""
    rounds = 2 * times + 2
    settings: Values = {"num_server_rounds": rounds, "evaluate_every": rounds}
    limits: Values = {"expected_nodes": 2, "reply_timeout_seconds": REPLY_SECONDS}
    with Federation(folder, shards, nodes=2 + times) as federation:
        federation.start_node(0)
        federation.start_node(1)
        again = train_with_faults(federation, KINDS[kind], {**settings, **limits}, times)
        entries = federation.rounds(NAME)
        absent = {entry["round"]: [0] for entry in entries if entry["replies"] == 1}
        lost = reference.lost_users(federation, NAME, folder, data, absent, settings)
    return {
        "killed": kind,
        "times": times,
        "rounds": len(entries),
        "rounds_without_the_node": len(absent),
        "rounds_done_again": again,
        "rounds_lost": rounds - len(entries),
        "longest_round_s": max(entry["seconds"] for entry in entries),
        "users_lost": lost,
    }


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    options = read_options(
        __doc__,
        "json",
        times={"type": int, "default": 2, "help": "faults of every kind"},
        kinds={"nargs": "+", "choices": KINDS, "default": list(KINDS)},
    )
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        data, shards = Path(temporary) / "data", Path(temporary) / "shards"
        prepare("ml-100k", source=None, out=data)
        shard(data, shards, 2)
        for number, kind in enumerate(options.kinds):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            results.append(measure(kind, options.times, data, shards, folder))
            print(json.dumps(results[-1]), flush=True)
    show(results, options.json)


if __name__ == "__main__":
    main()

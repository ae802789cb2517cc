"""What is lost when parts of a real federation are killed in the middle of a round?

    python benchmarks/faults.py --times 2

For every kind of fault: a SuperLink and two SuperNodes with TLS and authentication, ml-100k, faults
injected while a round is trained. Afterwards the shared parameters and every user's private ones
are compared with the same rounds in one process without any fault. Takes minutes: Flower believes
in a dead node for up to a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from benchmark_table import print_table

from mrff.data.prepare import prepare
from mrff.data.shard import shard
from tests.support import reference
from tests.support.deployment import Federation, Values, wait_for_request

NAME = "faults"
REPLY_SECONDS = 90.0
Result = dict[str, Any]


def node_under_new_id(federation: Federation, settings: Values, times: int) -> Result:
    """A node dies; another key takes over its shard and its state."""
    run = federation.submit(name=NAME, **settings)
    lives = 0
    for fault in range(times):
        wait_for_request(federation, f"node-{lives}", "train", 2 + 2 * fault)
        federation.kill(f"node-{lives}")
        lives = 2 + fault
        federation.start_node(lives, config=federation.settings(0))
        federation.completes_round(NAME, 2 + 2 * fault)
    federation.completes(run, 900.0)
    return {}


def node_under_its_id(federation: Federation, settings: Values, times: int) -> Result:
    """A node dies and is started again until Flower takes it back."""
    run = federation.submit(name=NAME, **settings)
    for fault in range(times):
        wait_for_request(federation, "node-0", "train", 2 + 2 * fault)
        federation.kill("node-0")
        federation.wait_until_online(0, 180.0)
        federation.completes_round(NAME, 2 + 2 * fault)
    federation.completes(run, 900.0)
    return {}


def server_app(federation: Federation, settings: Values, times: int) -> Result:
    """The process that aggregates dies; the run is resumed."""
    return _resumed(federation, settings, times, Federation.kill_server_app)


def superlink(federation: Federation, settings: Values, times: int) -> Result:
    """The server dies with everything in it; it is started again and the run is resumed."""

    def kill(federation: Federation) -> None:
        federation.kill("superlink")
        federation.start_superlink()

    return _resumed(federation, settings, times, kill)


def _resumed(
    federation: Federation, settings: Values, times: int, kill: Callable[[Federation], None]
) -> Result:
    again = 0
    run = federation.submit(name=NAME, **settings)
    for fault in range(times):
        begun = 2 + 2 * fault
        wait_for_request(federation, "node-0", "train", begun)
        kill(federation)
        federation.control.wait(run, 180)
        again += begun - len(federation.rounds(NAME))
        run = federation.submit(resume=NAME, **settings)
    federation.completes(run, 900.0)
    return {"rounds_done_again": again}


KINDS: dict[str, Callable[[Federation, Values, int], Result]] = {
    "node, new id": node_under_new_id,
    "node, same id": node_under_its_id,
    "ServerApp": server_app,
    "SuperLink": superlink,
}


def measure(kind: str, times: int, data: Path, shards: Path, folder: Path) -> Result:
    """Injects faults of one kind and counts what is missing afterwards."""
    rounds = 2 * times + 2
    settings: Values = {"num_server_rounds": rounds, "evaluate_every": rounds}
    limits: Values = {"expected_nodes": 2, "reply_timeout_seconds": REPLY_SECONDS}
    with Federation(folder, shards, nodes=2 + times) as federation:
        federation.start_node(0)
        federation.start_node(1)
        counted = KINDS[kind](federation, {**settings, **limits}, times)
        entries = federation.rounds(NAME)
        absent = {entry["round"]: [0] for entry in entries if entry["replies"] == 1}
        lost = reference.lost_users(federation, NAME, folder, data, absent, settings)
    return {
        "killed": kind,
        "times": times,
        "rounds": len(entries),
        "rounds_without_the_node": len(absent),
        "rounds_done_again": counted.get("rounds_done_again", 0),
        "rounds_lost": rounds - len(entries),
        "longest_round_s": max(entry["seconds"] for entry in entries),
        "users_lost": lost,
    }


def main() -> None:
    """Prints a table, and writes it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2, help="faults of every kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        data, shards = Path(temporary) / "data", Path(temporary) / "shards"
        prepare("ml-100k", source=None, out=data)
        shard(data, shards, 2)
        for number, kind in enumerate(arguments.kinds):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            results.append(measure(kind, arguments.times, data, shards, folder))
            print(json.dumps(results[-1]), flush=True)
    print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

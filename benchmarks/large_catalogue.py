"""What does a catalogue of a million items cost: bytes of a round, seconds, memory?

    python benchmarks/large_catalogue.py --home /tmp/million --items 1000000 --made-up-users 100000

The population is made up, its items follow Zipf's law and have an id and features. For each way to
tell items apart (``network.item-ids``) a run of its own learns the next item through Flower:
rounds, one validation of all users among all items, and a list for one user by the command line.
Memory is what the machine had less at the worst moment than before, so that nothing else may run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import read_options, show

from client_app.devices import free_memory
from mrff.data.prepare import prepare
from mrff.ops.federation import Federation
from mrff.ops.processes import termination_interrupts
from mrff.ops.simulation import read_settings, simulate

WAYS = ("full", "hashed", "features")
GIGABYTE = 2**30
SETTINGS: dict[str, Any] = {
    "training.objective": "next", "training.linear-items": "off", "training.sampling-rate": 0.02,
    "network.feature-dim": 48, "network.user-network-dim": "off", "server.num-server-rounds": 3,
    "evaluation.evaluate-every": 3, "evaluation.score-test": False, "run.tensorboard": False,
    "server.reply-timeout-seconds": 7200.0,
}  # fmt: skip


def main() -> None:
    """Prints a table with a row for each way."""
    options = read_options(
        __doc__, "set", "json", "made_up_users", nodes=2, items=1_000_000, events_per_user=20,
        home={"type": Path, "required": True},
        ways={"nargs": "+", "default": list(WAYS), "choices": WAYS},
    )  # fmt: skip
    home = options.home.expanduser().absolute()
    data = home / "data" / f"{options.items}-items"
    if not data.exists():
        many = {"users": options.made_up_users, "items": options.items}
        sparse = {"sparse": 1, "events_per_user": options.events_per_user}
        prepare("synthetic", out=data, options={**many, **sparse})
    with termination_interrupts():  # or a run would outlive this script
        rows = [measured(options, home, data, way) for way in options.ways]
    show(rows, options.json)


def measured(options: Any, home: Path, data: Path, way: str) -> dict[str, Any]:
    """One run, and a list of its best model."""
    name = f"{way}-{int(time.time())}"
    values = SETTINGS | read_settings(None, options.set) | {
        "data.dataset": data.name, "data.data-dir": str(data), "data.home": str(home),
        "network.item-ids": way, "run.name": name,
    }  # fmt: skip
    with memory() as most:
        simulate(values, Federation(options.nodes))
        started = time.perf_counter()
        run = str(home / "runs" / name)
        command = [str(Path(sys.executable).parent / "mrff"), "recommend", run, "--user", "user-1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        listed = time.perf_counter() - started
    told = [json.loads(line) for line in (home / "runs" / name / "history.jsonl").open()]
    rounds = [entry for entry in told if entry["kind"] == "round"][1:]  # the first one opens nodes
    validation = next(entry for entry in told if entry["kind"] == "validation")
    return {
        "item ids": way,
        "MB a round": round(
            sum(r["bytes_down"] + r["bytes_up"] for r in rounds) / len(rounds) / 1e6, 1
        ),
        "s a round": round(sum(r["seconds"] for r in rounds) / len(rounds), 1),
        "s to validate": round(validation["seconds"]),
        "users validated": validation["users"],
        "s to recommend": round(listed, 1),
        "GB at most": round(max(most) / GIGABYTE, 1),
        "hr10": round(validation["hr10"], 4),
    }


@contextmanager
def memory() -> Iterator[list[int]]:
    """Bytes that the machine has less than before, every second."""
    before, taken, over = available(), [0], threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            taken.append(before - available())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def available() -> int:
    """Bytes of memory that new programs could have."""
    free = free_memory()
    if free is None:
        raise SystemExit("there is no /proc/meminfo: this benchmark needs Linux")
    return free


if __name__ == "__main__":
    main()

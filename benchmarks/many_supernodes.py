"""Do many real SuperNodes get on with one SuperLink: lost replies, locks, seconds, memory?

    python benchmarks/many_supernodes.py --dataset ~/.mrff/data/ml-100k --nodes 32 --rounds 20

SuperNodes with TLS and authentication on this machine, and a SuperLink with its database in a file;
every message starts a process. One node comes late, one is killed for good, one is frozen for half
a minute. Replies of all others have to come, and nothing may say "database is locked".
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from measuring import read_options, show

from mrff.data.shard import shard
from mrff.ops.keys import node_name
from mrff.ops.processes import wait_for
from tests.support.deployment import Federation

LOCKED = "database is locked"
FROZEN_SECONDS = 30.0


def main() -> None:
    """Prints a table; the exit status is 1 where a reply was lost or a call was locked out."""
    options = read_options(
        __doc__,
        *("dataset", "json"),
        nodes=32,
        rounds=20,
        window={"type": int, "default": 0, "help": "send-window (0: as it is)"},
        timeout={"type": float, "default": 3600.0, "help": "seconds for all of it"},
        poll={"type": float, "default": 3.0, "help": "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"},
    )
    if options.dataset is None:
        raise SystemExit("--dataset is needed: a prepared folder")
    if options.nodes < 4 or options.rounds < 8:
        raise SystemExit("at least 4 nodes and 8 rounds are needed: three nodes do not behave")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shard(options.dataset, folder / "shards", options.nodes)
        federation = Federation(folder, folder / "shards", nodes=options.nodes)
        federation.poll_seconds = options.poll
        with federation:
            found = measure(federation, options)
    show([found], options.json)
    if found["replies_lost"] or found["locked"]:
        raise SystemExit(1)


def measure(federation: Federation, options: Any) -> dict[str, Any]:
    """One run; what was lost, and what it took."""
    late, killed, frozen = options.nodes - 1, 0, 1
    for node in range(late):
        federation.start_node(node)
    window = {"send_window": options.window} if options.window else {}
    run = federation.submit(
        name="many", expected_nodes=late, num_server_rounds=options.rounds, sampling_rate=1.0,
        evaluate_every=options.rounds // 2, min_reply_fraction=0.5, **window,
    )  # fmt: skip
    federation.completes_round("many", 1, options.timeout)
    federation.start_node(late)
    federation.completes_round("many", options.rounds // 4, options.timeout)
    gone = federation.node_id(killed)
    federation.kill(node_name(killed))
    federation.completes_round("many", options.rounds // 2, options.timeout)
    federation.freeze(node_name(frozen))
    memory = _memory()
    time.sleep(FROZEN_SECONDS)
    federation.thaw(node_name(frozen))
    wait_for("the end", lambda: "test" in _kinds(federation), options.timeout, every=1.0)
    federation.completes(run, 120)
    rounds = federation.rounds("many")
    excused = {gone, federation.node_id(frozen)}
    absent = [
        {each["node"] for each in entry["rejected"]} | {*entry["missing"]} for entry in rounds
    ]
    logs = [federation.log(name) for name in ("superlink", *map(node_name, range(options.nodes)))]
    return {
        "nodes": options.nodes,
        "rounds": len(rounds),
        "replies": sum(entry["replies"] for entry in rounds),
        "replies_lost": sum(len(nodes - excused) for nodes in absent),
        "replies_lost_of_the_killed_and_the_frozen": sum(len(n & excused) for n in absent),
        "nodes_in_last_round": rounds[-1]["sent"],
        "locked": sum(log.count(LOCKED) for log in logs),
        "round_seconds": statistics.median(entry["seconds"] for entry in rounds[1:]),
        "memory_gb": round(memory / 2**30, 1),
    }


def _kinds(federation: Federation) -> set[str]:
    return {entry["kind"] for entry in federation.history("many")}


def _memory() -> int:
    """Bytes that this machine has in use, caches left out."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return 1024 * (kilobytes["MemTotal"] - kilobytes["MemAvailable"])


if __name__ == "__main__":
    main()

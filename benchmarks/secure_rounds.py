"""What does a secure sum cost a deployed federation: seconds of a round, against plain sums?

    python benchmarks/secure_rounds.py --dataset ~/.mrff/data/ml-100k --nodes 4

A SuperLink and SuperNodes with TLS and authentication on this machine, where every message starts
a process; the same rounds with and without secure sums, one run after the other.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from measuring import read_options, show

from mrff.data.shard import shard
from tests.support.deployment import Federation


def main() -> None:
    """Prints a table and the ratio."""
    options = read_options(__doc__, "dataset", "json", nodes=4, rounds=5)
    if options.dataset is None:
        raise SystemExit("--dataset is needed: a prepared folder")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shard(options.dataset, folder / "shards", options.nodes)
        with Federation(folder, folder / "shards", nodes=options.nodes) as federation:
            for node in range(options.nodes):
                federation.start_node(node)
            rows = [measure(federation, options.rounds, secure=secure) for secure in (False, True)]
    show(rows, options.json)
    print(f"ratio {rows[1]['round_seconds'] / rows[0]['round_seconds']:.1f}")


def measure(federation: Federation, rounds: int, *, secure: bool) -> dict[str, Any]:
    """Seconds of a training round, the first one left out, and of the test."""
    name = "secure" if secure else "plain"
    run = federation.submit(
        name=name, secure_aggregation=secure, num_server_rounds=rounds, evaluate_every=rounds
    )
    federation.completes(run, 1800.0)
    seconds = [entry["seconds"] for entry in federation.rounds(name)]
    test = federation.history(name)[-1]
    return {
        "sums": name,
        "round_seconds": statistics.median(seconds[1:]),
        "test_seconds": test["seconds"],
        "bytes_up": federation.rounds(name)[-1]["bytes_up"],
    }


if __name__ == "__main__":
    main()

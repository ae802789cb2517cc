"""What do many arrays in a message cost a deployed federation, against the same numbers in one?

    python benchmarks/message_objects.py

A SuperLink and SuperNodes with TLS and authentication on this machine; an app without a model
(echo/) sends both kinds of message in turns and gets as much back. MRFF's messages were of the
first kind, and are of the second (mrff/wire/packing.py). Linux only: reads /proc.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from measuring import read_options, show

from tests.support.deployment import Federation

ECHO = Path(__file__).parent / "echo"


def main() -> None:
    """Prints a table of medians and the ratios."""
    options = read_options(__doc__, nodes=3, rounds=5, arrays=50, kilobytes=300)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options)
    rows = []
    for way, number in (("many", options.arrays), ("one", 1)):
        wall, superlink = (statistics.median(column) for column in zip(*measured[way], strict=True))
        rows.append({"arrays": number, "round_s": wall, "superlink_processor_s": superlink})
    show(rows)
    for column in ("round_s", "superlink_processor_s"):
        print(f"{column}: ratio {rows[0][column] / rows[1][column]:.1f}")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Wall seconds and the SuperLink's seconds of processor time per round, by way."""
    shards, out = folder / "shards", folder / "measured.json"
    with Federation(folder, shards, nodes=options.nodes) as federation:
        for node in range(options.nodes):
            federation.start_node(node)
        settings = {**vars(options), "superlink": federation.pid("superlink")}
        values = [f"{key}={value}" for key, value in settings.items()] + [f'out="{out}"']
        federation.completes(federation.control.submit(ECHO, values), 900.0)
    measured: dict[str, list[tuple[float, float]]] = json.loads(out.read_text())
    return measured


if __name__ == "__main__":
    main()

"""What all benchmarks share: their options, sides that take turns, and the table they print."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "dataset": {"type": Path, "help": "a prepared folder; none: made-up users"},
    "config": {"type": Path, "metavar": "TOML", "help": "settings, as in conf/"},
    "set": {"action": "append", "default": [], "metavar": "KEY=VALUE"},
    "users": {"type": int, "default": 0, "help": "0: all of them"},
    "made_up_users": {"type": int, "default": 1_000},
    "threads": {"type": int, "default": 1},
    "json": {"type": Path, "help": "a file for the same as JSON"},
}


def read_options(doc: str, *shared: str, **own: Any) -> argparse.Namespace:
    """The command line of a script whose docstring is ``doc``.

    Args:
        shared: which of `OPTIONS` it has.
        own: default values of more options, or what ``add_argument`` takes; of a shared one, too.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name in dict.fromkeys((*shared, *own)):
        given = own.get(name, {})
        if not isinstance(given, dict):
            given = {"type": type(given), "default": given}
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, **{**OPTIONS.get(name, {}), **given})
    return parser.parse_args()


@dataclass
class Side:
    """One of the things compared."""

    taken: list[float] = field(default_factory=list)  # seconds of each time
    result: Any = None  # of the last time

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.taken)


def take_turns(
    sides: Mapping[Any, Callable[[], Any]],
    repeats: int,
    *,
    fewer: Mapping[Any, int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Any, Side]:
    """Runs all sides again and again, one after the other: they meet the same disturbances.

    Args:
        fewer: how often a side runs that is not run ``repeats`` times.
    """
    found = {name: Side() for name in sides}
    for turn in range(repeats):
        for name, run in sides.items():
            if turn < (fewer or {}).get(name, repeats):
                began = clock()
                found[name].result = run()
                found[name].taken.append(clock() - began)
    return found


def show(rows: Sequence[Mapping[str, Any]], path: Path | None = None) -> None:
    """Prints a line per quantity, a column per row of measurements; ``path`` gets them as JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  " + "  ".join(f"{_text(row.get(name)):>14}" for row in rows))
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n")


def text(value: Any) -> str:
    """As it stands in TOML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)

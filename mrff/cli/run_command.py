"""``mrff run``: a simulation through ``flwr run``, started and stopped cleanly."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrff.ops.simulation import read_settings, simulate


def add_parser(subparsers: Any) -> None:
    """Adds ``run``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("run", help="train in Flower's simulation on this machine")
    command.add_argument("--config", type=Path, metavar="TOML", help="settings, as in conf/")
    command.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting; may be given often and wins over --config",
    )  # fmt: skip
    add_engine_arguments(command)
    command.set_defaults(handler=_run)


def add_engine_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what every simulation can be told."""
    command.add_argument("--nodes", type=positive, default=4, metavar="N", help="SuperNodes (4)")
    command.add_argument(
        "--cpus-per-node", type=positive, default=1, metavar="N", help="CPUs a node computes with"
    )
    command.add_argument("--app", type=Path, help="folder of the Flower app (this checkout)")


def _run(arguments: argparse.Namespace) -> int:
    values = read_settings(arguments.config, arguments.changes)
    simulate(
        values, nodes=arguments.nodes, cpus_per_node=arguments.cpus_per_node, app=arguments.app
    )
    return 0


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number

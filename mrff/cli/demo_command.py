"""``mrff demo``: prepares ml-100k, trains on it federally, compares with the floors."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from mrff.cli.data_commands import show_progress
from mrff.cli.run_command import add_engine_arguments
from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.data.floors import floors
from mrff.data.prepare import prepare
from mrff.ops.simulation import read_settings, simulate


def add_parser(subparsers: Any) -> None:
    """Adds ``demo``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("demo", help="download ml-100k, train, compare with the floors")
    command.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting of the run",
    )  # fmt: skip
    add_engine_arguments(command)
    command.set_defaults(handler=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    values = read_settings(None, arguments.changes)
    values.setdefault("run-name", f"demo-{datetime.now():%Y%m%d-%H%M%S}")
    config = RunConfig.from_flat(values)
    with show_progress() as progress:
        prepare(config.data.dataset, source=None, out=config.dataset_path, progress=progress)
    lowest = floors(load_dataset(config.dataset_path), holdout=config.data.holdout, part="test")
    summary = simulate(
        values, nodes=arguments.nodes, cpus_per_node=arguments.cpus_per_node, app=arguments.app
    )
    test = summary["test"]

    table = Table(title=f"{config.data.dataset}: test of the last {config.data.holdout} per user")
    for column in ("predictor", "AUC", "LogLoss", "sees"):
        table.add_column(column)
    pooled = "everybody's data pooled"
    rows = [("user rate", lowest.user, pooled), ("user x item rate", lowest.user_item, pooled)]
    for name, floor, sees in rows:
        table.add_row(name, f"{floor.auc:.4f}", f"{floor.log_loss:.4f}", sees)
    table.add_row(
        "MRFF", f"{test['auc']:.4f}", f"{test['log_loss']:.4f}", "sums of model updates only"
    )
    Console(width=100).print(table)
    print(f"results: {summary['path']}")
    print(
        f"test auc {test['auc']:.4f} logloss {test['log_loss']:.4f} "
        f"best-round {summary['best_round']}"
    )
    return 0

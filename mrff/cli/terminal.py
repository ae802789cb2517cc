"""What commands have in common: options, each declared once, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def several(*names: str, metavar: str | None = None, help: str, **more: Any) -> Any:
    """An option that may be given often, and need not be."""
    return typer.Option(
        *names, metavar=metavar, default_factory=list, show_default=False, help=help, **more
    )


Config = Annotated[
    Path | None, typer.Option("--config", metavar="TOML", help="Settings, as in conf/.")
]
Changes = Annotated[
    list[str],
    several(
        "-c", "--set", metavar="KEY=VALUE",
        help="One setting; may be given often and wins over --config.",
    ),
]  # fmt: skip
App = Annotated[
    Path | None,
    typer.Option("--app", metavar="DIR", help="Folder of the Flower app (this checkout)."),
]
Nodes = Annotated[int, typer.Option(metavar="N", min=1, help="SuperNodes.")]
CpusPerNode = Annotated[int, typer.Option(metavar="N", min=1, help="CPUs a node computes with.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]

# What an argument is stands in the command's own text: not every click shows an argument's help.
Run = Annotated[str, typer.Argument(metavar="RUN")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET")]
User = Annotated[str, typer.Option(metavar="ID", help="As in the dataset.")]
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A deployed node's shard (default: the run's).")
]
StateDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A deployed node's private state.")
]


def print_table(
    headings: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    title: str | None = None,
    lines: bool = False,
    right: Container[str] = (),
) -> None:
    """A table; a pipe has no width, so that there lines are as long as they are.

    Args:
        headings: may be none.
        lines: around the table and under its headings.
        right: the headings of columns that are aligned to the right.
    """
    box = HEAVY_HEAD if lines else None
    table = Table(title=title, box=box, pad_edge=lines, show_header=bool(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def print_json(value: Any) -> None:
    """One line."""
    print(json.dumps(value))

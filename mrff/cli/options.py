"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option("--config", metavar="TOML", help="Settings, as in conf/.")
]
Changes = Annotated[
    list[str],
    typer.Option(
        "-c", "--set", metavar="KEY=VALUE", default_factory=list, show_default=False,
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

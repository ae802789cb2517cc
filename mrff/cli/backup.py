"""``mrff backup``: copy a node's private stores and ledgers while the node works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrff.ops.backup import backup as copy_state


def backup(
    state_dir: Annotated[Path, typer.Argument(help="of a node, which may be at work")],
    out: Annotated[Path, typer.Option(help="a new folder for the copy")],
) -> None:
    """Copy a node's private stores and privacy ledgers while the node works."""
    copied = copy_state(state_dir, out)
    typer.echo(f"{len(copied)} databases of {state_dir} are in {out}")

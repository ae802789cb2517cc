"""``mrff settings``: every setting with its default, what it accepts and why it is there."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mrff.config import reference


def settings(
    search: Annotated[str, typer.Argument(help="words in the name or the reason")] = "",
    write: Annotated[
        bool, typer.Option(help="write pyproject.toml's table and docs/settings.md")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show every setting; a run takes them as `-c NAME=VALUE`."""
    from rich.console import Console  # heavy, and only for people
    from rich.table import Table

    from mrff.ops.simulation import app_folder

    if write:
        for path in reference.write(app_folder(None)):
            print(f"{path} is written anew")
        return
    found = reference.matching(search)
    if as_json:
        print(json.dumps([reference.row(setting) for setting in found]))
        return
    table = Table("setting", "default", "accepted", "what for", highlight=False)
    for setting in found:
        cells = reference.row(setting).values()
        table.add_row(*(v if isinstance(v, str) else json.dumps(v) for v in cells))
    Console().print(table)
    if not found:
        print(f"no setting has {search!r} in its name or reason")

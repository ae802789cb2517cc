"""``mrff settings``: every setting with its default, what it accepts and why it is there."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mrff.cli.terminal import print_json, print_table
from mrff.config import reference


def settings(
    search: Annotated[str, typer.Argument(help="words in the name or the reason")] = "",
    write: Annotated[
        bool, typer.Option(help="write pyproject.toml's table and docs/settings.md")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show every setting; a run takes them as `-c NAME=VALUE`."""
    if write:
        from mrff.ops.simulation import app_folder  # pyarrow is slow to import

        for path in reference.write(app_folder(None)):
            print(f"{path} is written anew")
        return
    found = reference.matching(search)
    if as_json:
        print_json([reference.row(setting) for setting in found])
        return
    rows = (
        (v if isinstance(v, str) else json.dumps(v) for v in reference.row(setting).values())
        for setting in found
    )
    print_table(("setting", "default", "accepted", "what for"), rows, lines=True)
    if not found:
        print(f"no setting has {search!r} in its name or reason")

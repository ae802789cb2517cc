"""``mrff new``: looks at a file of interactions and writes the TOML that describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Column = typer.Option(metavar="COLUMN", help="Where its name does not say it.")


def new(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    user: Annotated[str | None, Column] = None,
    item: Annotated[str | None, Column] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="none: the order of the rows.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="As strptime's: %d/%m/%Y.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="A column of 0 and 1, or 'stars >= 4'; none: events."),
    ] = None,
) -> None:
    """Look at your own data and write what describes it, beside the file.

    FILE is CSV, JSON lines or parquet, with a row for each thing that a user did.
    """
    from mrff.data.guessing.describing import describe_file, prepare_command  # brings pyarrow

    given = {"user": user, "item": item, "time": time, "time-format": time_format, "label": label}
    said = {key: value for key, value in given.items() if value is not None}
    made = describe_file(file, said)
    roles, sides = made.roles, made.sides
    for role, guess in (("user", roles.user), ("item", roles.item), ("time", roles.time),
                        ("label", roles.label)):  # fmt: skip
        print(f"{role}: {guess.value or 'none'} ({guess.why})")
    title = [f"title {sides.title}"] if sides.title else []
    print(f"of items: {', '.join([*title, *sides.items]) or 'the item itself'}")
    print(f"of users: {', '.join(sides.users) or 'nothing'}")
    if sides.left:
        print(f"not used: {', '.join(sides.left)}")
    print(f"{made.path} describes {made.rows:,} rows; look through it, then:")
    print(f"  {prepare_command(made.path)}")
    print(f"  mrff run -c dataset={made.name}")

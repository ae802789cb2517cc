"""``mrff recommend``: the best unseen items for a user, on the data of the user's own node."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrff.cli.options import AsJson, DataDir, Run, StateDir, User
from mrff.cli.output import print_json

MOVERS = 2  # history items named per item and direction


def recommend(
    run: Run,
    user: User,
    top: Annotated[int, typer.Option(metavar="N", help="How many items.")] = 10,
    explain: Annotated[
        bool, typer.Option("--explain", help="Name the history items that moved each score most.")
    ] = False,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The best unseen items for a user.

    RUN is the name of a run, or its folder.
    """
    from mrff.data.dataset import load_titles  # this brings pyarrow, the others torch
    from mrff.ops.nodes import NodesAtHand, open_user
    from mrff.ops.recommend import answer
    from mrff.ops.trained_run import find_run, load_best

    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    model = open_user(nodes, user)
    said = answer(model, load_titles(nodes.dataset_folder), top=top, explain=explain)
    if as_json:
        print_json(said)
        return
    print(said["provenance"])
    groups = (
        "layer {layer} group {group} (p {probability:.2f})".format(**g) for g in said["groups"]
    )
    print("groups: " + ", ".join(groups))
    _print_items(said["items"], movers=explain and not said["moved_alike"])
    if explain:
        _print_explanation(said)


def _print_items(items: list[dict[str, Any]], *, movers: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("", "item", "probability"):
        table.add_column(column, overflow="fold", justify="left" if column == "item" else "right")
    for column in ("raised by", "lowered by") if movers else ():
        table.add_column(column, overflow="fold")
    for place, line in enumerate(items, start=1):
        cells = [str(place), line["item"], f"{line['probability']:.3f}"]
        if movers:
            cells += [_named(line[way][:MOVERS]) for way in ("raised_by", "lowered_by")]
        table.add_row(*map(escape, cells))
    Console(width=140 if movers else 100).print(table)


def _print_explanation(said: dict[str, Any]) -> None:
    """What the columns mean; the parts themselves where they are the same for all items."""
    if said["history"] == 0:
        print("no history, so nothing in it moved a score")
        return
    if said["moved_alike"]:
        print("the history moves all of these items alike:")
        for word in ("raised", "lowered"):
            print(f"  {word} by {_named(said['items'][0][f'{word}_by']) or 'nothing'}")
    print(
        "change of the item's logit by one item of the history, + liked, - not: "
        "scored with it and without it"
    )


def _named(movers: list[dict[str, Any]]) -> str:
    """``+Alien (1979) +0.21``, the largest first."""
    return "; ".join(f"{'+' if m['liked'] else '-'}{m['item']} {m['part']:+.2f}" for m in movers)

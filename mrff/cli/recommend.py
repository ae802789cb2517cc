"""``mrff recommend``: the best items for a user, for a history, or for all users into a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from mrff.cli.terminal import AsJson, DataDir, Run, StateDir, print_json, print_table, several
from mrff.io.files import write_bytes

if TYPE_CHECKING:
    from mrff.ops.lists import AllUsers
    from mrff.ops.nodes import NodesAtHand
    from mrff.ops.user_model import UserModel

MOVERS = 2  # history items named per item and direction

User = Annotated[str | None, typer.Option(metavar="ID", help="A user, as in the dataset.")]
History = Annotated[
    list[str],
    several(
        "--history", metavar="ITEM,...",
        help="Instead of a user: what somebody liked, by title, part of a title or id:ID, the "
        "newest last; may be given often.",
    ),
]  # fmt: skip
AllOfThem = Annotated[bool, typer.Option("--all-users", help="Every user; needs --out.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For all lists: .parquet, .csv or .json.")
]
Top = Annotated[
    int | None, typer.Option(metavar="N", help="How many items (10, or all if there are fewer).")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Name the history items that moved each score most.")
]
IncludeSeen = Annotated[
    bool | None,
    typer.Option(
        "--include-seen/--unseen-only",
        help="Items the user has met as well, or not; by default where the data's repeats count.",
        show_default=False,
    ),
]
Only = Annotated[
    list[str] | None, typer.Option("--filter", metavar="FEATURE=VALUE", help="Only such items.")
]
BeforeTest = Annotated[
    bool, typer.Option("--before-test", help="As if the held-out test rows had not happened.")
]

Picture = Annotated[
    Path | None,
    typer.Option(metavar="FILE.svg", help="Draw the user's history, list and what is popular."),
]


def recommend(
    run: Run,
    history: History,
    user: User = None,
    all_users: AllOfThem = False,
    out: Out = None,
    top: Top = None,
    explain: Explain = False,
    include_seen: IncludeSeen = None,
    only: Only = None,
    before_test: BeforeTest = False,
    picture: Picture = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The best items for a user.

    RUN is the name of a run, or its folder.
    """
    asked = {"--user": user is not None, "--history": bool(history), "--all-users": all_users}
    _refuse_what_does_not_fit(
        [name for name, given in asked.items() if given],
        {
            "--out": out is not None,
            "--explain": explain,
            "--before-test": before_test,
            "--picture": picture is not None,
        },
    )
    pairs = dict(_pair(text) for text in only or ())
    from mrff.ops.nodes import NodesAtHand
    from mrff.ops.trained_run import find_run, load_best
    from mrff.ops.user_model import open_user  # these bring torch
    from mrff.ops.wish import Wish

    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    wish = Wish(top, include_seen, pairs)
    if out is not None:
        from mrff.ops.lists import AllUsers  # brings torch

        _write(AllUsers(nodes, wish, before_test), out.expanduser().absolute(), as_json=as_json)
        return
    if user is not None:
        model = open_user(nodes, user, before_test=before_test)
    else:
        model = _with_history(nodes, history)
    from mrff.data.dataset import load_titles
    from mrff.ops.recommend import answer

    titles = load_titles(nodes.dataset_folder)
    said = answer(model, titles, wish, explain=explain)
    if picture is not None:
        from mrff.ops.list_picture import list_picture, next_item, popular_items

        popular = popular_items(nodes, model, wish, len(said["items"]))
        drawn = list_picture(said, popular, next_item(model, titles))
        write_bytes(picture.expanduser().absolute(), drawn.encode())
    print_json(said) if as_json else _print(said, explain=explain)


def _refuse_what_does_not_fit(asked: list[str], given: dict[str, bool]) -> None:
    """Whom a list is for, and the options that go with it."""
    if len(asked) != 1:
        got = " and ".join(asked) or "none of them"
        raise _mistake(f"give one of --user, --history and --all-users, got {got}")
    needless = {"--user": ["--out"], "--history": ["--out", "--before-test", "--picture"]}
    for name in needless.get(asked[0], ["--explain", "--picture"]):
        if given[name]:
            raise _mistake(f"{name} does not go with {asked[0]}")
    if asked == ["--all-users"] and not given["--out"]:
        raise _mistake("--all-users needs --out FILE, a file ending in .parquet, .csv or .json")


def _mistake(text: str) -> click.UsageError:
    return click.UsageError(text, ctx=click.get_current_context(silent=True))


def _pair(text: str) -> tuple[str, str]:
    """``genres=Drama`` as a feature and its value."""
    name, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"--filter needs FEATURE=VALUE, got {text!r}")
    return name.strip(), value.strip()


def _with_history(nodes: NodesAtHand, texts: list[str]) -> UserModel:
    """Somebody who is in no data and liked the items named."""
    from mrff.data.dataset import load_item_ids, load_titles  # these bring pyarrow
    from mrff.ops.item_names import ItemNames
    from mrff.ops.user_model import open_history

    names = ItemNames(load_item_ids(nodes.dataset_folder), load_titles(nodes.dataset_folder))
    return open_history(nodes, names.items(texts))


def _write(asked: AllUsers, file: Path, *, as_json: bool) -> None:
    """The lists of all users into a file, and how many of them got one."""
    from mrff.ops.list_files import check_file, write_lists  # this brings torch
    from mrff.ops.recommend import order_of

    check_file(file)
    began, best = time.perf_counter(), asked.nodes.best
    with _bar(asked.number) as progress:
        done = write_lists(asked, file, progress)
    order = order_of(best.config.objective, best.mixture)
    if as_json:
        print_json({"file": str(file), "ordered_by": order, **vars(done)})
        return
    seconds = time.perf_counter() - began
    print(f"{file}: {done.rows} rows of {done.users} users, in {seconds:.1f} s")
    print(f"ordered by {order}")
    for number, why in (
        (done.too_short, "are too short for the split and left out"),
        (done.nothing_left, "have met all items that were asked for and have no list"),
        (done.shared_only, "have no private parameters here: the shared model with their history"),
    ):
        if number:
            print(f"{number} users {why}")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """On a terminal, how many users are done."""
    from rich.progress import Progress  # not every command needs it

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("users", total=total)
        yield lambda done: bars.update(task, completed=done)


def _print(said: dict[str, Any], *, explain: bool) -> None:
    print(said["provenance"])
    if not said["is_known"] and said["latest"]:
        print("history: " + "; ".join(said["latest"]))
    groups = (
        "layer {layer} group {group} (p {probability:.2f})".format(**g) for g in said["groups"]
    )
    print("groups: " + ", ".join(groups))
    print(f"ordered by {said['ordered_by']}")
    _print_items(said["items"], movers=explain and not said["moved_alike"])
    if explain:
        _print_explanation(said)


def _print_items(items: list[dict[str, Any]], *, movers: bool) -> None:
    numbers = [name for name in ("score", "probability") if name in items[0]]
    headings = ["", "item", *numbers, *(("raised by", "lowered by") if movers else ())]
    rows = [
        [place, line["item"], *(f"{line[name]:.3f}" for name in numbers)]
        + [_named(line[way][:MOVERS]) for way in ("raised_by", "lowered_by") if movers]
        for place, line in enumerate(items, start=1)
    ]
    print_table(headings, rows, right=("", *numbers))


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
        "change of the item's score by one item of the history, + liked, - not: "
        "scored with it and without it"
    )


def _named(movers: list[dict[str, Any]]) -> str:
    """``+Alien (1979) +0.21``, the largest first."""
    return "; ".join(f"{'+' if m['liked'] else '-'}{m['item']} {m['part']:+.2f}" for m in movers)

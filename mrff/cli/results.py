"""What a run gives: ``mrff recommend`` a user's best unseen items, ``mrff export`` their model,
and ``mrff report`` one HTML page that needs no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mrff.cli.terminal import AsJson, DataDir, Run, StateDir, User, print_json, print_table
from mrff.config import RunConfig
from mrff.io.files import write_bytes

MOVERS = 2  # history items named per item and direction


def recommend(
    run: Run,
    user: User,
    top: Annotated[int, typer.Option(metavar="N", help="How many items.")] = 10,
    explain: Annotated[
        bool, typer.Option("--explain", help="Name the history items that moved each score most.")
    ] = False,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items the user has met as well.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--filter", metavar="FEATURE=VALUE", help="Only such items.")
    ] = None,
    before_test: Annotated[
        bool,
        typer.Option("--before-test", help="As if the held-out test rows had not happened."),
    ] = False,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The best items for a user, those they have met left out.

    RUN is the name of a run, or its folder.
    """
    from mrff.data.dataset import load_titles  # this brings pyarrow, the others torch
    from mrff.ops.nodes import NodesAtHand, open_user
    from mrff.ops.recommend import Wish, answer
    from mrff.ops.trained_run import find_run, load_best

    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    model = open_user(nodes, user, before_test=before_test)
    wish = Wish(top, include_seen, dict(_pair(text) for text in only or ()))
    said = answer(model, load_titles(nodes.dataset_folder), wish, explain=explain)
    if as_json:
        print_json(said)
        return
    print(said["provenance"])
    groups = (
        "layer {layer} group {group} (p {probability:.2f})".format(**g) for g in said["groups"]
    )
    print("groups: " + ", ".join(groups))
    print(f"ordered by {said['ordered_by']}")
    _print_items(said["items"], movers=explain and not said["moved_alike"])
    if explain:
        _print_explanation(said)


def export(
    run: Run,
    user: User,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make; it is private.")],
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> None:
    """One user's model for a device (ONNX).

    RUN is the name of a run, or its folder.
    """
    from mrff.ops.export import TOLERANCE, export_user  # these bring torch
    from mrff.ops.nodes import NodesAtHand, open_user
    from mrff.ops.trained_run import find_run, load_best

    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    model = open_user(nodes, user)
    folder = out.expanduser().absolute()
    difference = export_user(model, nodes, folder)
    print(model.provenance)
    if difference is None:
        print(
            "NOT CHECKED against PyTorch: onnxruntime is not installed (pip install 'mrff[export]')"
        )
    else:
        print(f"onnxruntime and PyTorch agree: logits differ by {difference:.1e} < {TOLERANCE:g}")
    print(f"{folder} holds the user's private parameters: only its owner can read it")


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page to write (report.html in its folder).")
    ] = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
    public: Annotated[
        bool, typer.Option("--public", help="Leave out what is drawn from private state.")
    ] = False,
) -> None:
    """A run or comparison as one HTML page.

    RUN is the name of either, or its folder.
    """
    from mrff.experiments.reports.comparison_page import comparison_page  # these bring plotly
    from mrff.experiments.reports.run_page import run_page
    from mrff.ops.trained_run import find_run

    folder = _comparison(run)
    if folder is not None:
        page = comparison_page(folder)
    else:
        folder = find_run(run).path
        page = run_page(run, data_dir=data_dir, state_dir=state_dir, public=public)
    file = (out or folder / "report.html").expanduser().absolute()
    content = page.encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)
    print(f"{file} ({len(content) / 1e6:.1f} MB, no network needed)")


def _pair(text: str) -> tuple[str, str]:
    """``genres=Drama`` as a feature and its value."""
    name, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"--filter needs FEATURE=VALUE, got {text!r}")
    return name.strip(), value.strip()


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


def _comparison(name: str) -> Path | None:
    """The folder of a comparison given as one, or by its name under ``MRFF_HOME``."""
    from mrff.experiments.comparison.files import is_comparison  # brings pandas

    named = RunConfig.from_flat({}).home / "comparisons" / name
    folders = (Path(name).expanduser().absolute(), named)
    return next((folder for folder in folders if is_comparison(folder)), None)

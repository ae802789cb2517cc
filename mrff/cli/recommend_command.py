"""``mrff recommend``: the best unseen items for a user, on the data of the user's own node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrff.data.dataset import load_titles
from mrff.ops.nodes import NodesAtHand, UserModel, open_user
from mrff.ops.recommend import Recommendations, leave_one_out, recommend
from mrff.ops.trained_run import find_run, load_best

MOVERS = 2  # history items named per item and direction
SHOWN_PART = 0.005  # of a logit; smaller parts are not worth a word


def add_parser(subparsers: Any) -> None:
    """Adds ``recommend``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("recommend", help="the best unseen items for a user")
    add_user_arguments(command)
    command.add_argument("--top", type=int, default=10, metavar="N", help="how many items (10)")
    command.add_argument(
        "--explain", action="store_true", help="name the history items that moved each score most"
    )
    command.set_defaults(handler=_recommend)


def add_user_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what names a run, a user, and where the user's node keeps its things."""
    command.add_argument("run", metavar="RUN", help="name of a run, or its folder")
    command.add_argument("--user", required=True, metavar="ID", help="as in the dataset")
    command.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="a deployed node's shard (default: the run's)"
    )
    command.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="a deployed node's private state"
    )


def provenance(user: UserModel, name: str, best_round: int) -> str:
    """Whose parameters answer, in one sentence."""
    if not user.is_known:
        return f"user {name} is unknown here: no history, the shared model of round {best_round}"
    if not user.private:
        return f"user {name}: shared model of round {best_round}; nothing in it is private"
    if not user.has_own:
        return (
            f"user {name} has no private parameters up to round {best_round} here: "
            "the shared model with the user's own history"
        )
    return f"user {name}: shared model of round {best_round} with the user's private parameters"


def _recommend(arguments: argparse.Namespace) -> int:
    run = find_run(arguments.run)
    best = load_best(run)
    nodes = NodesAtHand(best, arguments.data_dir, arguments.state_dir)
    user = open_user(nodes, arguments.user)
    found = recommend(user, arguments.top)
    titles = load_titles(nodes.dataset_folder)
    print(provenance(user, arguments.user, best.round))
    print("groups: " + ", ".join(_groups(found)))
    table = Table(box=None, pad_edge=False)
    for column in ("", "item", "probability"):
        table.add_column(column, overflow="fold", justify="left" if column == "item" else "right")
    parts = leave_one_out(user, found.items) if arguments.explain else np.zeros((0, 0))
    differ = bool(parts.size) and bool(np.ptp(parts, axis=1).max() >= SHOWN_PART)
    if differ:
        table.add_column("raised by", overflow="fold")
        table.add_column("lowered by", overflow="fold")
    for place, (item, chance) in enumerate(zip(found.items, found.probabilities, strict=True)):
        movers = [_movers(user, titles, parts[:, place], s) for s in (1, -1)] if differ else []
        table.add_row(*map(escape, (str(place + 1), titles[item], f"{chance:.3f}", *movers)))
    Console(width=140 if differ else 100).print(table)
    if arguments.explain:
        _explain(user, titles, parts, differ)
    return 0


def _explain(user: UserModel, titles: list[str], parts: np.ndarray, differ: bool) -> None:
    """What the columns mean; the parts themselves where they are the same for all items."""
    if not parts.size:
        print("no history, so nothing in it moved a score")
        return
    if not differ:
        print("the history moves all of these items alike:")
        for word, sign in (("raised", 1), ("lowered", -1)):
            print(f"  {word} by {_movers(user, titles, parts[:, 0], sign, most=5) or 'nothing'}")
    print(
        "change of the item's logit by one item of the history, + liked, - not: "
        "scored with it and without it"
    )


def _groups(found: Recommendations) -> list[str]:
    return [
        f"layer {layer + 1} group {group + 1} (p {chance:.2f})"
        for layer, (group, chance) in enumerate(zip(found.routes, found.chosen, strict=True))
    ]


def _movers(
    user: UserModel, titles: list[str], parts: np.ndarray, sign: int, most: int = MOVERS
) -> str:
    """The history items with the largest parts of a sign: ``+Alien (1979) 0.21``."""
    items, labels = user.recent()
    order = np.argsort(-sign * parts, kind="stable")[:most]
    return "; ".join(
        f"{'+' if labels[i] else '-'}{titles[items[i]]} {parts[i]:+.2f}"
        for i in order
        if sign * parts[i] >= SHOWN_PART
    )

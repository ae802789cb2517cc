"""``mrff run`` and ``mrff demo``: simulations through ``flwr run``; ``mrff settings`` of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from mrff.cli.terminal import (
    App,
    AsJson,
    Changes,
    Config,
    CpusPerNode,
    Nodes,
    print_json,
    print_table,
)
from mrff.config import RunConfig, reference

# What `mrff demo` changes: one body learns clicks and next items; found by validation on ml-100k.
DEMO: dict[str, bool | int | float | str] = {
    "training.objective": "both",
    "training.next-weight": 0.3,
    "training.linear-items": 1700,
    "network.feature-mix": "concat",
    "network.feature-dim": 16,
    "data.max-windows-per-user": 1,
    "training.user-weighting": "uniform",
}
SHOWN_USER = "1"  # whose list the demo prints


def run(
    changes: Changes,
    config: Config = None,
    nodes: Nodes = 4,
    cpus_per_node: CpusPerNode = 1,
    gpus: Annotated[
        str, typer.Option(metavar="auto|N", help="GPUs a node computes with; below 1: a share.")
    ] = "auto",
    ray_address: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", envvar="RAY_ADDRESS", help="A Ray cluster to run on."),
    ] = "",
    app: App = None,
) -> None:
    """Train in Flower's simulation, on this machine or on a Ray cluster."""
    from mrff.ops.federation import Federation
    from mrff.ops.simulation import read_settings, simulate  # pyarrow is slow to import

    values = read_settings(config, changes)
    simulate(values, Federation(nodes, cpus_per_node, gpus, ray_address), app)


def demo(
    changes: Changes, nodes: Nodes = 4, cpus_per_node: CpusPerNode = 1, app: App = None
) -> None:
    """Download ml-100k, train on clicks and next items, compare with the floors."""
    from mrff.data.dataset import load_dataset  # these bring pyarrow, results torch
    from mrff.data.floors import floors
    from mrff.ops.datasets import prepare_dataset
    from mrff.ops.federation import Federation
    from mrff.ops.simulation import read_settings, simulate
    from server_app.run.results import final_line

    values = {**DEMO, **read_settings(None, changes)}
    values.setdefault("run.name", f"demo-{datetime.now():%Y%m%d-%H%M%S}")
    config = RunConfig.from_flat(values)
    prepare_dataset(config.data.dataset, source=None, out=config.dataset_path)
    dataset = load_dataset(config.dataset_path, config.times_read)
    lowest = floors(dataset, holdout=config.data.holdout, part="test")
    summary = simulate(values, Federation(nodes, cpus_per_node), app)
    test = summary["test"]

    pooled = "everybody's data pooled"
    rows = (
        ("user rate", lowest.user.auc, lowest.user.log_loss, pooled),
        ("user x item rate", lowest.user_item.auc, lowest.user_item.log_loss, pooled),
        ("MRFF", test["auc"], test["log_loss"], "sums of model updates only"),
    )
    print_table(
        ("predictor", "AUC", "LogLoss", "sees"),
        ((name, f"{auc:.4f}", f"{log_loss:.4f}", sees) for name, auc, log_loss, sees in rows),
        title=f"{config.data.dataset}: test of the last {config.data.holdout} per user"
        + (config.same_time_mark and f", {config.same_time_mark}"),
        lines=True,
    )
    if summary["test_parts"]:
        _print_lists(summary)
    print(f"results: {summary['path']}")
    print(final_line(summary))


def _print_lists(summary: dict[str, Any]) -> None:
    """How well lists hit the next item, and what one user is recommended."""
    from mrff.data.dataset import load_titles  # this brings pyarrow, the others torch
    from mrff.ops.nodes import NodesAtHand
    from mrff.ops.recommend import answer
    from mrff.ops.trained_run import find_run, load_best
    from mrff.ops.user_model import open_user
    from mrff.ops.wish import Wish

    parts = summary["test_parts"]
    print_table(
        ("lists by", "HR@10", "NDCG@10"),
        (
            (told, f"{parts[name]['hr10']:.4f}", f"{parts[name]['ndcg10']:.4f}")
            for name, told in (("popularity", "popularity"), ("ease", "EASE"), ("mixed", "MRFF"))
        ),
        title="the last item of a user, among all that they had not met",
        lines=True,
    )
    nodes = NodesAtHand(load_best(find_run(summary["path"])))
    titles = load_titles(nodes.dataset_folder)
    user = open_user(nodes, SHOWN_USER)
    said = answer(user, titles, Wish(10), explain=False)
    print(f"user {SHOWN_USER}, lately: " + "; ".join(titles[item] for item in user.items[-5:]))
    rows = (
        (n, line["item"], f"{line['probability']:.2f}") for n, line in enumerate(said["items"], 1)
    )
    print_table(("", f"next for user {SHOWN_USER}", "P(like)"), rows, right=("", "P(like)"))


def settings(
    search: Annotated[str, typer.Argument(help="words in the name or the reason")] = "",
    write: Annotated[
        bool, typer.Option(help="write pyproject.toml's table and docs/settings.md")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting; a run takes them as `-c NAME=VALUE`."""
    if write:
        from mrff.ops.flower_app import checkout

        for path in reference.write(checkout()):
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

"""``mrff deploy``: keys of a federation, its nodes, runs on it; ``mrff backup`` of a node."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import click
import typer

from mrff.cli.terminal import App, Changes, Config, several
from mrff.ops.backup import backup as copy_state
from mrff.ops.control import Control, FlowerError
from mrff.ops.keys import RENEWABLE, make_keys

commands = typer.Typer(help="Run on real nodes: keys, nodes, runs.", rich_markup_mode="rich")
Superlink = Annotated[str, typer.Option(metavar="HOST:PORT", help="Its control port.")]
Authority = Annotated[Path, typer.Option("--ca", metavar="FILE", help="public/ca.crt of the keys.")]
Wait = Annotated[float, typer.Option(metavar="SECONDS", help="For the SuperLink.")]
FlowerHome = Annotated[
    Path | None, typer.Option(metavar="DIR", help="For Flower's files (a temporary folder).")
]


@commands.command("keys")
def keys(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    nodes: Annotated[int, typer.Option(metavar="N", help="How many there are.")],
    superlink_host: Annotated[
        list[str],
        several(
            metavar="HOST",
            help="A name or address under which nodes reach the SuperLink; may be given often.",
        ),
    ],
    node_host: Annotated[
        list[str],
        several(metavar="HOST", help="The same for nodes whose executors run on another host."),
    ],
    renew: Annotated[
        list[str],
        several(click_type=click.Choice(RENEWABLE), help="Make these anew; may be given often."),
    ],
) -> None:
    """Make certificates and keys that are missing.

    FOLDER gets a folder per party.
    """
    made = make_keys(
        folder, nodes=nodes, superlink_hosts=superlink_host, node_hosts=node_host, renew=renew
    )
    for name in made:
        print(f"made {name}")
    print(f"{folder} is complete for a SuperLink and {nodes} nodes")


@commands.command("register")
def register(
    keys: Annotated[list[Path], typer.Argument(metavar="KEY.pub...")],
    superlink: Superlink,
    ca: Authority,
    wait: Wait = 60.0,
    flower_home: FlowerHome = None,
) -> None:
    """Let the nodes of these public keys take part."""
    with tempfile.TemporaryDirectory() as temporary:
        control = Control(superlink, ca, flower_home or Path(temporary))
        control.wait_until_reachable(wait)
        for key in keys:
            new = control.register(key, key.stem)
            print(f"{key.stem} {'is registered' if new else 'was registered before'}")


@commands.command("submit")
def submit(
    superlink: Superlink,
    ca: Authority,
    changes: Changes,
    config: Config = None,
    app: App = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="HOME",
            help="The ServerApp's home, if this host sees it: a run that is resumed keeps its "
            "settings, and the test result is the last line.",
        ),
    ] = None,
    wait: Wait = 60.0,
    flower_home: FlowerHome = None,
) -> None:
    """Run the app there and show its log; exit status 0 only if it completed."""
    from mrff.ops.flower_app import app_folder
    from mrff.ops.simulation import read_settings, write_settings  # brings pyarrow

    values = read_settings(config, changes)
    if results:
        from server_app.run.resumption import as_resumed_at  # brings PyTorch

        values = as_resumed_at(results, values)
    with tempfile.TemporaryDirectory() as temporary:
        control = Control(superlink, ca, flower_home or Path(temporary))
        control.wait_until_reachable(wait)
        settings = [str(write_settings(values, Path(temporary)))] if values else []
        run_id = control.submit(app_folder(app), settings)
        print(f"run {run_id} is submitted", flush=True)
        control.follow(run_id)
    name = values.get("run.resume") or values.get("run.name")
    if results and name:
        _print_result(results / "runs" / str(name) / "summary.json")


def _print_result(summary: Path) -> None:
    from server_app.run.results import final_line  # brings torch

    if not os.access(summary, os.R_OK):
        raise FlowerError(f"the run completed, but {summary} cannot be read; check --results")
    print(final_line(json.loads(summary.read_text())))


def backup(
    state_dir: Annotated[Path, typer.Argument(help="of a node, which may be at work")],
    out: Annotated[Path, typer.Option(help="a new folder for the copy")],
) -> None:
    """Copy a node's private stores and privacy ledgers while the node works."""
    copied = copy_state(state_dir, out)
    typer.echo(f"{len(copied)} databases of {state_dir} are in {out}")

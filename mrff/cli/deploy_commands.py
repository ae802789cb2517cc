"""``mrff deploy``: the keys of a federation, registering its nodes, submitting runs to it."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mrff.ops.control import Control, ControlError
from mrff.ops.keys import make_keys

_RENEWABLE = ("certificates", "node-keys")


def add_parser(subparsers: Any) -> None:
    """Adds ``deploy`` and its commands; each sets ``handler``, which returns the exit status."""
    deploy = subparsers.add_parser("deploy", help="run on real nodes: keys, nodes, runs")
    commands = deploy.add_subparsers(dest="deploy_command", required=True, metavar="COMMAND")

    command = commands.add_parser("keys", help="make certificates and keys that are missing")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="gets a folder per party")
    command.add_argument("--nodes", type=int, required=True, metavar="N")
    command.add_argument(
        "--superlink-host", action="append", default=[], metavar="HOST",
        help="a name or address under which nodes reach the SuperLink; may be given often",
    )  # fmt: skip
    command.add_argument(
        "--node-host", action="append", default=[], metavar="HOST",
        help="the same for nodes whose executors run on another host",
    )  # fmt: skip
    command.add_argument(
        "--renew", choices=_RENEWABLE, action="append", default=[], metavar="WHAT",
        help=f"make anew: {' or '.join(_RENEWABLE)}",
    )  # fmt: skip
    command.set_defaults(handler=_keys)

    command = commands.add_parser("register", help="let the nodes of these public keys take part")
    command.add_argument("keys", type=Path, nargs="+", metavar="KEY.pub")
    _add_connection(command)
    command.set_defaults(handler=_register)

    command = commands.add_parser(
        "submit", help="run the app there, show its log; exit status 0 only if it completed"
    )
    command.add_argument("--app", type=Path, help="folder of the Flower app (this checkout)")
    command.add_argument("--config", type=Path, metavar="TOML", help="settings, as in conf/")
    command.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting; may be given often and wins over --config",
    )  # fmt: skip
    command.add_argument(
        "--results", type=Path, metavar="HOME",
        help="the ServerApp's home, if this host sees it: the test result becomes the last line",
    )  # fmt: skip
    _add_connection(command)
    command.set_defaults(handler=_submit)


def _add_connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--superlink", required=True, metavar="HOST:PORT")
    command.add_argument("--ca", type=Path, required=True, metavar="FILE", help="public/ca.crt")
    command.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="for the SuperLink (60)"
    )
    command.add_argument(
        "--flower-home", type=Path, metavar="DIR", help="for Flower's files (a temporary folder)"
    )


def _keys(arguments: argparse.Namespace) -> int:
    made = make_keys(
        arguments.folder,
        nodes=arguments.nodes,
        superlink_hosts=arguments.superlink_host,
        node_hosts=arguments.node_host,
        renew_certificates="certificates" in arguments.renew,
        renew_node_keys="node-keys" in arguments.renew,
    )
    for name in made.files:
        print(f"made {name}")
    print(f"{arguments.folder} is complete for a SuperLink and {arguments.nodes} nodes")
    return 0


def _register(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        control = _connect(arguments, Path(folder))
        for key in arguments.keys:
            if not key.is_file():
                raise ControlError(f"{key} is no file; make it with: mrff deploy keys")
            new = control.register(key, key.stem)
            print(f"{key.stem} {'is registered' if new else 'was registered before'}")
    return 0


def _submit(arguments: argparse.Namespace) -> int:
    from mrff.ops.simulation import read_settings  # brings what a simulation needs

    values = read_settings(arguments.config, arguments.changes)
    app = arguments.app or Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        control = _connect(arguments, Path(folder))
        settings = Path(folder) / "run.toml"
        settings.write_text("".join(f"{key} = {json.dumps(v)}\n" for key, v in values.items()))
        run_id = control.submit(app, [str(settings)] if values else [])
        print(f"run {run_id} is submitted", flush=True)
        control.show_log(run_id)
        status, details = control.wait(run_id)
    if status != "finished:completed":
        raise ControlError(f"run {run_id} ended as {status} ({details})")
    name = values.get("resume") or values.get("run-name")
    if arguments.results and name:
        _print_result(arguments.results / "runs" / str(name) / "summary.json")
    return 0


def _connect(arguments: argparse.Namespace, temporary: Path) -> Control:
    if not arguments.ca.is_file():
        raise ControlError(f"--ca {arguments.ca} is no file; make it with: mrff deploy keys")
    control = Control(arguments.superlink, arguments.ca, arguments.flower_home or temporary)
    control.wait_until_reachable(arguments.wait)
    return control


def _print_result(summary: Path) -> None:
    from server_app.run.results import final_line

    if not os.access(summary, os.R_OK):
        raise ControlError(f"the run completed, but {summary} cannot be read; check --results")
    print(final_line(json.loads(summary.read_text())))

"""``mrff run``: a simulation through ``flwr run``, started and stopped cleanly."""

from __future__ import annotations

import argparse
import json
import tempfile
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

from mrff_cli.flower_engine import FlowerEngine
from mrff_config import ConfigError, RunConfig
from mrff_data.errors import DataError
from mrff_data.recipes import RECIPES
from server_app.data_folder import is_prepared

Values = dict[str, bool | int | float | str]


def add_parser(subparsers: Any) -> None:
    """Adds ``run``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("run", help="train in Flower's simulation on this machine")
    command.add_argument("--config", type=Path, metavar="TOML", help="settings, as in conf/")
    command.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting; may be given often and wins over --config",
    )  # fmt: skip
    add_engine_arguments(command)
    command.set_defaults(handler=_run)


def add_engine_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what every simulation can be told."""
    command.add_argument("--nodes", type=positive, default=4, metavar="N", help="SuperNodes (4)")
    command.add_argument(
        "--cpus-per-node", type=positive, default=1, metavar="N", help="CPUs a node computes with"
    )
    command.add_argument("--app", type=Path, help="folder of the Flower app (this checkout)")


def simulate(values: Values, *, nodes: int, cpus_per_node: int, app: Path | None) -> dict[str, Any]:
    """Checks the configuration, runs it through Flower and returns the run's summary.

    Raises:
        ConfigError: settings that cannot be used; nothing was started.
        DataError: a dataset that is neither prepared nor can be; nothing was started.
        FlowerError: the run failed.
    """
    config = RunConfig.from_flat(values)
    app_folder(app)
    _check_dataset(config)
    with FlowerEngine(config.home / "flower") as engine:
        return run_on(engine, values, nodes=nodes, cpus_per_node=cpus_per_node, app=app)


def run_on(
    engine: FlowerEngine,
    values: Values,
    *,
    nodes: int,
    cpus_per_node: int,
    app: Path | None,
    log: Path | None = None,
) -> dict[str, Any]:
    """As `simulate`, on an engine that is running; ``log`` is a file for the run's log.

    Raises:
        ConfigError: settings that cannot be used; nothing was started.
        FlowerError: the run failed.
    """
    config = RunConfig.from_flat(values)
    name = config.output.resume or config.output.run_name or _fresh_name(config)
    values = {**values, "home": str(config.home)}
    if not config.output.resume:
        values["run-name"] = name
    if not config.server.expected_nodes:
        values["expected-nodes"] = nodes
    with tempfile.TemporaryDirectory() as folder:
        run_config = Path(folder) / "run.toml"
        run_config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
        engine.run(app_folder(app), run_config, nodes=nodes, cpus_per_node=cpus_per_node, log=log)
    summary = config.home / "runs" / Path(name).name / "summary.json"
    content: dict[str, Any] = json.loads(summary.read_text())
    return content


def read_settings(config: Path | None, changes: list[str]) -> Values:
    """Settings of a TOML file and of ``KEY=VALUE`` texts, which win.

    Raises:
        ConfigError: an unreadable file, or a text that is no KEY=VALUE.
    """
    values: Values = {}
    if config is not None:
        try:
            values |= tomllib.loads(config.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the settings in {config}: {error}") from error
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"a setting is given as KEY=VALUE, got {change!r}")
        values[key.strip()] = _value(text.strip())
    return values


def _run(arguments: argparse.Namespace) -> int:
    values = read_settings(arguments.config, arguments.changes)
    simulate(
        values, nodes=arguments.nodes, cpus_per_node=arguments.cpus_per_node, app=arguments.app
    )
    return 0


def _check_dataset(config: RunConfig) -> None:
    """What the run would find out as well, but after Flower has started."""
    if is_prepared(config):
        return
    name, folder = config.data.dataset, config.dataset_path
    if name not in RECIPES:
        raise DataError(
            f"dataset {name!r} is neither prepared (in {folder}) nor one of {', '.join(RECIPES)}; "
            f"for data of your own: mrff data prepare csv --from DESCRIPTION.toml"
        )
    if not RECIPES[name].default_source:
        raise DataError(
            f"{name} is not prepared (in {folder}), and its files cannot be fetched; "
            f"first: mrff data prepare {name} --from PATH"
        )


def _value(text: str) -> bool | int | float | str:
    """A TOML value; a bare word is a text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else str(value)


def _fresh_name(config: RunConfig) -> str:
    return f"{config.data.dataset}-{datetime.now():%Y%m%d-%H%M%S}"


def app_folder(app: Path | None) -> Path:
    """The Flower app: the folder given, or the checkout this code is in.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(__file__).resolve().parent.parent if app is None else app.absolute()
    if not (folder / "pyproject.toml").is_file():
        raise ConfigError(
            f"{folder} holds no Flower app (no pyproject.toml); name the checkout with --app"
        )
    return folder


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number

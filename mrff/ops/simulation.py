"""Runs a simulation through ``flwr run``: checks, starts, hands back the summary."""

from __future__ import annotations

import json
import tempfile
import tomllib
from datetime import datetime
from logging import getLogger
from pathlib import Path
from typing import Any

from mrff.config import ConfigError, RunConfig, full_names
from mrff.data.dataset import load_sizes
from mrff.data.errors import DataError
from mrff.data.recipes import RECIPES
from mrff.data.schema import SCHEMA_FILE, Schema
from mrff.data.windows import nobody_fits
from mrff.ops.cluster import check_cluster
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import AUTO, Federation, Machine, this_machine
from mrff.ops.flower_app import app_folder
from mrff.ops.start_from import check_start, inherited
from server_app.data_folder import check_everybody_has_users, is_prepared
from server_app.names import check_names
from server_app.objective import settled

Values = dict[str, bool | int | float | str]

log = getLogger("flwr")


def simulate(values: Values, federation: Federation, app: Path | None = None) -> dict[str, Any]:
    """Checks the configuration, runs it through Flower and returns the run's summary.

    Raises:
        ConfigError: settings that cannot be used; nothing was started.
        CheckpointError: a run to resume that is not there, or damaged; nothing was started.
        DataError: a dataset that is neither prepared nor can be; nothing was started.
        FlowerError: no run is possible on the Ray cluster that was named, or the run failed.
    """
    from server_app.run.resumption import as_resumed  # brings PyTorch

    values = inherited(as_resumed(values))
    config, nodes = RunConfig.from_flat(values), federation.nodes
    check_names(config)
    app_folder(app)
    if config.run.resume:
        _check_private_state(config.home / "state" / Path(config.run.resume).name, nodes)
    _check_dataset(config, nodes)
    if (config.run.start_from or config.run.resume) and is_prepared(config):
        check_start(config)
    if config.privacy.secure_aggregation:
        log.warning(
            "secure sums in a simulation: nodes have keys of the moment and one owner; it shows "
            "that the arithmetic holds and hides nothing"
        )
    federation = federation.on(_machines(federation, config), config.training.device)
    if federation.gpus != AUTO and not federation.gpus_per_node:
        values = {**values, "training.device": "cpu"}  # nodes see a GPU that none of them reserves
    with FlowerEngine(config.home / "flower", federation) as engine:
        return run_on(engine, values, app=app)


def _machines(federation: Federation, config: RunConfig) -> list[Machine]:
    if not federation.ray_address:
        return [this_machine()]
    schema = config.dataset_path / SCHEMA_FILE
    files = [schema] if is_prepared(config) else []  # else the run makes it in the home
    machines = check_cluster(federation, config.home, files)
    log.info(
        "the Ray cluster at %s has room on %s",
        federation.ray_address, ", ".join(machine.name for machine in machines),
    )  # fmt: skip
    return machines


def run_on(
    engine: FlowerEngine, values: Values, *, app: Path | None, log: Path | None = None
) -> dict[str, Any]:
    """As `simulate`, on an engine that is running; ``log`` is a file for the run's log.

    Raises:
        ConfigError: settings that cannot be used; nothing was started.
        FlowerError: the run failed.
    """
    values = inherited(values)
    config = RunConfig.from_flat(values)
    fresh = f"{config.data.dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    name = config.run.resume or config.run.name or fresh
    values = {**values, "data.home": str(config.home)}
    if not config.run.resume:
        values["run.name"] = name
    if not config.server.expected_nodes:
        values["server.expected-nodes"] = engine.federation.nodes
    with tempfile.TemporaryDirectory() as folder:
        engine.run(app_folder(app), write_settings(values, Path(folder)), log)
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
            values |= full_names(tomllib.loads(config.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the settings in {config}: {error}") from error
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"a setting is given as KEY=VALUE, got {change!r}")
        values |= full_names({key.strip(): _value(text.strip())})
    return values


def write_settings(values: Values, folder: Path) -> Path:
    """A TOML file in ``folder`` for ``flwr run --run-config``."""
    path = folder / "run.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path


def _check_private_state(training: Path, nodes: int) -> None:
    """Simulated nodes keep their users' parameters by their place among so many."""
    stored = {int(path.name.rpartition("-")[2]) for path in training.glob("node-*-of-*")}
    if stored and nodes not in stored:
        raise ConfigError(
            f"run {training.name} was trained on {max(stored)} nodes, got {nodes}: its users' "
            f"private parameters would be missing; resume with --nodes {max(stored)}"
        )


def _check_dataset(config: RunConfig, nodes: int) -> None:
    """What the run would find out as well, but after Flower has started."""
    if is_prepared(config):
        schema = Schema.load(config.dataset_path)
        settled(config, schema)
        check_everybody_has_users(nodes, schema)
        sizes, holdout = load_sizes(config.dataset_path), config.for_scoring.data.holdout
        if config.validates_somebody and sizes.max(initial=0) < 2 * holdout + 1:
            raise DataError(nobody_fits(holdout))
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

"""What a run leaves to its data, decided once, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from logging import getLogger
from pathlib import Path

from mrff.config import ONLY_OF, RunConfig
from mrff.config.declaration import Value
from mrff.config.fitting import GROW_WITH_DATA, fitting
from mrff.data.facts import facts_of
from mrff.data.schema import Schema
from mrff.io.files import write_json
from server_app.run.run_folder import RunFolder, named_run

log = getLogger("flwr")


def fitted(config: RunConfig, schema: Schema) -> dict[str, Value]:
    """The values of settings that are open, by full name, said in one line of the log.

    A run that is resumed has the values of before, and so has one that goes on from another, but
    for those that grow with the data, where the data chose them.

    Raises:
        CheckpointError: there is no such run.
    """
    if not config.to_fit:
        return {}
    if name := config.run.resume:
        return _stored(config, named_run(config, "resume", name))
    if name := config.run.start_from:
        folder = named_run(config, "start-from", name)
        stored = _stored(config, folder)
        grows = GROW_WITH_DATA & config.to_fit & _read(folder.fitted).keys()
        return stored | _chosen(replace(config.with_fitted(stored), to_fit=grows), schema)
    return _chosen(config, schema)


def keep_chosen(config: RunConfig, folder: RunFolder, found: Mapping[str, Value]) -> None:
    """Writes which of the found settings of a new run its data chose, or that of runs before it."""
    if name := config.run.start_from:
        before = _read(named_run(config, "start-from", name).fitted)
        found = {key: value for key, value in found.items() if key in before}
    write_json(folder.fitted, dict(found))


def _chosen(config: RunConfig, schema: Schema) -> dict[str, Value]:
    facts = facts_of(config.dataset_path, schema) if config.to_fit else None
    found = [] if facts is None else fitting(config, facts)
    if found:
        log.info("settings that fit the data: %s", "; ".join(map(str, found)))
    return {one.key: one.value for one in found}


def _stored(config: RunConfig, folder: RunFolder) -> dict[str, Value]:
    saved = _read(folder.config)
    others = {key for key, of in ONLY_OF.items() if config.objective not in of}
    return {key: saved[key] for key in config.to_fit - others if key in saved}


def _read(path: Path) -> Mapping[str, Value]:
    try:
        found: Mapping[str, Value] = json.loads(path.read_text())
    except (OSError, ValueError):  # a damaged run is named where it is taken up
        return {}
    return found

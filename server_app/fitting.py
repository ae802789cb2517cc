"""What a run leaves to its data, decided once, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from logging import getLogger

from mrff.config import ONLY_OF, RunConfig
from mrff.config.declaration import Value
from mrff.config.fitting import fitting
from mrff.data.facts import facts_of
from mrff.data.schema import Schema
from server_app.run.run_folder import named_run

log = getLogger("flwr")


def fitted(config: RunConfig, schema: Schema) -> dict[str, Value]:
    """The values of settings that are open, by full name, said in one line of the log.

    A run that goes on from another one, or is resumed, has that one's values.

    Raises:
        CheckpointError: there is no such run.
    """
    if not config.to_fit:
        return {}
    for setting, name in (("resume", config.run.resume), ("start-from", config.run.start_from)):
        if name:
            return _stored(config, setting, name)
    facts = facts_of(config.dataset_path, schema)
    found = [] if facts is None else fitting(config, facts)
    if found:
        log.info("settings that fit the data: %s", "; ".join(map(str, found)))
    return {one.key: one.value for one in found}


def _stored(config: RunConfig, setting: str, name: str) -> dict[str, Value]:
    try:
        saved: Mapping[str, Value] = json.loads(named_run(config, setting, name).config.read_text())
    except (OSError, ValueError):  # said where the run is taken up
        return {}
    others = {key for key, of in ONLY_OF.items() if config.objective not in of}
    return {key: saved[key] for key in config.to_fit - others if key in saved}

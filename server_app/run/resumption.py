"""What a resumed run goes on with: the settings it has, and those given anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mrff.config import FREE_KEYS, ConfigError, RunConfig
from mrff.config.declaration import Value
from mrff.config.names import SETTINGS
from server_app.run.checkpoint import check_goes_on, load_checkpoint
from server_app.run.run_folder import resumed_folder

NOT_INHERITED = ("run.name", "run.resume", "data.home", "server.expected-nodes")


def as_resumed_at(home: Path, given: Mapping[str, Value]) -> dict[str, Value]:
    """As `as_resumed`, by the files below ``home``, of a run that goes on where it has its own.

    Raises:
        CheckpointError, ConfigError: see `as_resumed`.
    """
    if given.get("run.resume", "off") == "off":
        return dict(given)
    values = as_resumed({**given, "data.home": str(home)})
    del values["data.home"]
    return {**values, **{key: given[key] for key in ("data.home",) if key in given}}


def as_resumed(given: Mapping[str, Value]) -> dict[str, Value]:
    """The settings of the run that ``run.resume`` names, with those given, by full name.

    A new run has those given. What is given as ``auto`` stays as the run has it.

    Raises:
        CheckpointError: there is nothing to resume, or it is damaged.
        ConfigError: a setting is given that the run has otherwise and that it cannot change, or
            fewer rounds than it has done.
    """
    places = {key: given[key] for key in ("data.home", "run.resume") if key in given}
    place = RunConfig.from_flat(places)
    if not place.run.resume:
        return dict(given)
    folder = resumed_folder(place)
    checkpoint = load_checkpoint(folder.checkpoints)
    stored = {key: value for key, value in checkpoint.config.items() if key in SETTINGS}
    anew = {}
    for key, value in given.items():
        setting = SETTINGS[key]
        if setting.leaves_open(value) and key in stored:
            continue
        anew[key] = setting.written(setting.parsed(value))
        if key not in FREE_KEYS and key in stored and anew[key] != stored[key]:
            raise ConfigError(
                f"run {folder.name} has {key}={stored[key]}, which a resumed run keeps, got "
                f"{anew[key]}; leave it out, or begin a new run"
            )
    for key in NOT_INHERITED:
        stored.pop(key, None)
    config = RunConfig.from_flat({**stored, **anew})
    check_goes_on(checkpoint, config.server.num_server_rounds, folder.name)
    return {**stored, **anew}

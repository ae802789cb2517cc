"""Checkpoints: the whole state of a run in one folder that appears by one rename.

    checkpoint/000007-round-30/arrays.safetensors   model, best model, optimiser moments
    checkpoint/000007-round-30/state.json           the rest, with the hash of the arrays

A crash at any byte leaves the folder before; what is left of the new one is removed by the next
save. The newest two are kept. Nothing in them can execute code when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError

from mrff.config import FREE_KEYS, ConfigError
from mrff.io.files import json_bytes, sync_folder, write_bytes
from strategies.state import TrainingState

FORMAT_VERSION = 2
KEPT = 2
ARRAYS_FILE, STATE_FILE = "arrays.safetensors", "state.json"


class CheckpointError(ValueError):
    """A checkpoint that is not there, damaged, or of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A run's state with what it belongs to; ``config`` is flat, in kebab-case."""

    state: TrainingState
    config: dict[str, Any]
    schema_hash: str


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Adds a checkpoint to ``folder`` and makes it durable.

    Raises:
        OSError: it cannot be written; earlier ones are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _saved(folder)
    serial = _serial(earlier[-1]) + 1 if earlier else 1
    name = f"{serial:06d}-round-{checkpoint.state.round}"
    for leftover in folder.glob("unfinished-*"):
        shutil.rmtree(leftover)
    staging = folder / f"unfinished-{name}"
    staging.mkdir()
    arrays = safetensors.numpy.save(checkpoint.state.arrays())
    write_bytes(staging / ARRAYS_FILE, arrays)
    body = {
        "format_version": FORMAT_VERSION,
        "schema_hash": checkpoint.schema_hash,
        "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        "state": checkpoint.state.numbers(),
        "config": checkpoint.config,
    }
    write_bytes(staging / STATE_FILE, json_bytes({**body, "sha256": _digest(body)}))
    os.rename(staging, folder / name)
    sync_folder(folder)
    for old in earlier[: 1 - KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint in ``folder``.

    Raises:
        CheckpointError: there is none, or it is damaged; an older one is never taken silently,
            because nodes may have dropped the private state that belongs to it.
    """
    saved = _saved(folder)
    if not saved:
        raise CheckpointError(f"no checkpoint in {folder}; start a new run instead of resuming")
    newest = saved[-1]
    try:
        body = json.loads((newest / STATE_FILE).read_bytes())
        digest = body.pop("sha256")
        arrays = (newest / ARRAYS_FILE).read_bytes()
        if body["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"checkpoint {newest} has format version {body['format_version']}, "
                f"this program reads {FORMAT_VERSION}"
            )
        if digest != _digest(body) or body["arrays_sha256"] != hashlib.sha256(arrays).hexdigest():
            raise _damaged(newest, "its checksum does not match")
        state = TrainingState.restored(safetensors.numpy.load(arrays), body["state"])
        return Checkpoint(state, body["config"], body["schema_hash"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(newest, f"{type(error).__name__}: {error}") from error


def check_same_configuration(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Whether a run may go on with ``current`` settings.

    Raises:
        ConfigError: the first key that differs, with both values, and all that is to be given.
    """
    differing = [
        key
        for key in sorted(saved.keys() | current.keys())
        if key not in FREE_KEYS and saved.get(key) != current.get(key)
    ]
    if differing:
        key = differing[0]
        wanted = " ".join(f"{key}={json.dumps(saved[key])}" for key in differing if key in saved)
        raise ConfigError(
            f"the checkpoint was made with {key}={_shown(saved.get(key))}, this run has "
            f"{key}={_shown(current.get(key))}; resume with the same configuration: {wanted} "
            "(mrff run, and mrff deploy submit --results HOME, take it over)"
        )


def check_goes_on(checkpoint: Checkpoint, rounds: int, name: str) -> None:
    """Whether a run may have so many rounds.

    Raises:
        ConfigError: it has done more.
    """
    if rounds < checkpoint.state.round:
        raise ConfigError(
            f"num-server-rounds={rounds} counts all rounds, and run {name} has done "
            f"{checkpoint.state.round} already; ask for at least as many"
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to resume from."""
    return bool(_saved(folder))


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-round-*"), key=_serial) if folder.is_dir() else []


def _serial(path: Path) -> int:
    return int(path.name.split("-", 1)[0])


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, reason: str) -> CheckpointError:
    older = [other for other in _saved(path.parent) if other != path]
    way_out = (
        f"to go on from {older[-1].name}, move the damaged folder away"
        if older
        else "start a new run"
    )
    return CheckpointError(f"checkpoint {path} is damaged ({reason}); {way_out}")


def _shown(value: Any) -> str:
    return "(not set)" if value is None else repr(value)

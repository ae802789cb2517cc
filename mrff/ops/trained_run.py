"""What a run has left on disk: its history, its summary, its best model, its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from mrff.config import RunConfig
from mrff.linear import LinearPart, Mixture
from server_app.run.history import read_history
from server_app.run.run_folder import RunFolder


class RunError(ValueError):
    """A run that is not there, or whose files cannot be used."""


@dataclass(frozen=True)
class BestModel:
    """The shared model of the best validated round, and what it belongs to."""

    round: int
    arrays: dict[str, np.ndarray]  # public arrays and experts
    config: RunConfig
    training_id: str
    schema_hash: str
    epoch_starts: list[int]
    lineage: list[str] = field(default_factory=list)  # see `mrff.wire.requests.RunFacts`
    mixture: Mixture | None = None  # linear models beside the network, the mix chosen first


def find_run(run: str) -> RunFolder:
    """The folder of a run given as one, or by its name under ``MRFF_HOME``.

    Raises:
        RunError: there is none.
    """
    runs = RunConfig.from_flat({}).home / "runs"
    for path in (Path(run).expanduser(), runs / run):
        folder = RunFolder(path.absolute())
        if folder.history.exists() or folder.config.exists() or folder.best.is_dir():
            return folder
    known = sorted(path.name for path in runs.glob("*/"))
    shown = f"; runs there: {', '.join(known[-8:])}" if known else ""
    raise RunError(f"there is no run {run!r}, neither as a folder nor in {runs}{shown}")


def load_history(run: RunFolder) -> list[dict[str, Any]]:
    """The entries of ``history.jsonl``; at least one.

    Raises:
        RunError: there is no entry, or a line is damaged.
    """
    try:
        history = read_history(run.history)
        good = all(isinstance(e, dict) and {"kind", "round"} <= e.keys() for e in history)
    except (OSError, ValueError) as error:
        raise _damaged(run.history, error) from error
    if not good:
        raise _damaged(run.history, "a line is no entry with kind and round")
    if not history:
        raise RunError(
            f"run {run.name} has no history yet ({run.history} is missing or empty): "
            "report it after its first round"
        )
    return history


def _mixture(path: Path) -> Mixture | None:
    """The linear models of a run that has some."""
    if not path.exists():
        return None
    arrays = safetensors.numpy.load_file(path)
    try:
        return Mixture(LinearPart.of(arrays), arrays["mixes"].astype(np.float64))
    except ValueError as error:
        raise _damaged(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run; empty where there is none yet.

    Raises:
        RunError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise _damaged(path, "it is no JSON object")
    return dict(content)


def load_best(run: RunFolder) -> BestModel:
    """The best model.

    Raises:
        RunError: the run has none yet, or it is damaged.
    """
    path = run.best / "best.json"
    if not path.exists():
        raise RunError(
            f"run {run.name} has no best model yet ({path} is missing): it appears after the first "
            "validation, every evaluate-every rounds"
        )
    about = read_json(path)
    try:
        model = run.best / str(about["model"])
        return BestModel(
            round=int(about["round"]),
            arrays=safetensors.numpy.load_file(model),
            config=RunConfig.from_flat(about["config"]),
            training_id=str(about["training_id"]),
            schema_hash=str(about["schema_hash"]),
            epoch_starts=[int(start) for start in about["epoch_starts"]],
            lineage=[str(run) for run in about.get("lineage", ())],
            mixture=_mixture(run.linear),
        )
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> RunError:
    kind = f"{type(reason).__name__}: " if isinstance(reason, KeyError | TypeError) else ""
    text = " ".join(str(reason).split())
    return RunError(f"{path} is damaged ({kind}{text}); restore it, or run the training again")

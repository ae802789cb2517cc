"""Where a run's results lie, and how a run is begun or taken up again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mrff.config import ConfigError, RunConfig
from mrff.io.files import OutputError
from server_app.run.checkpoint import CheckpointError, has_checkpoint


@dataclass(frozen=True)
class RunFolder:
    """``<home>/runs/<name>``; the name is also the lineage of the nodes' private state."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """See `server_app.run.checkpoint`."""
        return self.path / "checkpoint"

    @property
    def history(self) -> Path:
        """See `server_app.run.history`."""
        return self.path / "history.jsonl"

    @property
    def best(self) -> Path:
        """The best validated model."""
        return self.path / "best"

    @property
    def model_card(self) -> Path:
        """What the best model is of and for, for whoever is handed it."""
        return self.best / "model_card.md"

    @property
    def linear(self) -> Path:
        """The linear models that rank beside the best model, and their mixes."""
        return self.best / "linear.safetensors"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def config(self) -> Path:
        """The configuration as the run began, or was taken up again last."""
        return self.path / "config.json"

    @property
    def summary(self) -> Path:
        """What came out; only a finished run has it."""
        return self.path / "summary.json"


@contextmanager
def open_run_folder(config: RunConfig, *, run_id: int) -> Iterator[RunFolder]:
    """The folder of the run to begin or to resume, for this process alone.

    Raises:
        ConfigError: the name is taken.
        CheckpointError: there is nothing to resume.
        OutputError: the folder cannot be written, or another process writes it.
    """
    folder = resumed_folder(config) if config.run.resume else _new(config, run_id)
    with _writing_to(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(f"run {folder.name} is being written by another process") from None
    try:
        yield folder
    finally:
        lock.release()


def _new(config: RunConfig, run_id: int) -> RunFolder:
    default = f"{config.data.dataset}-{time.strftime('%Y%m%d-%H%M%S')}-{run_id}"
    folder = RunFolder(config.home / "runs" / (config.run.name or default))
    with _writing_to(folder.path):
        if has_checkpoint(folder.checkpoints) or folder.history.exists():
            raise ConfigError(
                f"run.name={folder.name!r} is taken ({folder.path}); choose another name, or "
                f"continue that run with resume={folder.name!r}"
            )
    return folder


def resumed_folder(config: RunConfig) -> RunFolder:
    """The folder that ``run.resume`` names; see `named_run`."""
    return named_run(config, "resume", config.run.resume or "")


def named_run(config: RunConfig, setting: str, name: str) -> RunFolder:
    """The folder of a run that ``setting`` names, or whose path it gives.

    Raises:
        CheckpointError: there is none.
    """
    named = Path(name).expanduser()
    path = named if named.is_absolute() else config.home / "runs" / named
    if not path.is_dir():
        raise CheckpointError(f"{setting}={name!r}: there is no run in {path}")
    return RunFolder(path)


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write results to {path} ({error.strerror}); set home to a folder you may write"
        ) from error

"""Writes down what a run does as it happens: history, event files, checkpoints, progress lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from logging import getLogger
from types import TracebackType
from typing import Any

import safetensors.numpy

from mrff.io.files import write_bytes, write_json
from server_app.run.checkpoint import Checkpoint, save_checkpoint
from server_app.run.history import History
from server_app.run.progress import evaluation_line, rejection_lines, round_line
from server_app.run.run_folder import RunFolder
from strategies.reports import EvaluationReport, RoundReport
from strategies.state import TrainingState

log = getLogger("flwr")


class Recorder:
    """The strategy's observer; use it as a context, so that event files are closed.

    Args:
        folder: of the run.
        config: flat, for the checkpoints.
        schema_hash: of the dataset.
        rounds: how many there will be in all, for the estimate of the time left.
        tensorboard: whether to write event files.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        config: Mapping[str, Any],
        schema_hash: str,
        rounds: int,
        tensorboard: bool,
    ) -> None:
        self.test: EvaluationReport | None = None
        self._folder = folder
        self._config = dict(config)
        self._schema_hash = schema_hash
        self._rounds = rounds
        self._history = History(folder.history)
        self._saved_best = 0
        self._began = time.monotonic()
        self._first_done: float | None = None
        self._rounds_since = 0
        self._events = None
        if tensorboard:
            from server_app.run.tensorboard_events import EventFile  # 0.25 s, only where wanted

            self._events = EventFile(folder.tensorboard)

    def round_finished(self, report: RoundReport) -> None:
        """See `strategies.reports.Observer`."""
        self._history.add_round(report)
        if self._events:
            self._events.add_round(report)
        left = self._seconds_per_round() * (self._rounds - report.round)
        log.info(round_line(report, rounds=self._rounds, seconds_left=left))
        self._warn(report.traffic.rejected, report.traffic.missing)

    def evaluated(self, report: EvaluationReport, *, is_best: bool) -> None:
        """See `strategies.reports.Observer`."""
        self._history.add_evaluation(report, is_best=is_best)
        if self._events:
            self._events.add_evaluation(report)
        if report.split == "test":
            self.test = report
        log.info(evaluation_line(report, is_best=is_best))
        self._warn(report.traffic.rejected, report.traffic.missing)

    def save(self, state: TrainingState) -> None:
        """See `strategies.reports.Observer`."""
        if state.best_round not in (0, self._saved_best):
            self._save_best(state)
        checkpoint = Checkpoint(state, self._config, self._schema_hash)
        save_checkpoint(self._folder.checkpoints, checkpoint)

    def _save_best(self, state: TrainingState) -> None:
        """The best model: shared arrays by their names, and what they belong to."""
        self._folder.best.mkdir(exist_ok=True)
        arrays = safetensors.numpy.save({**state.best_public, **state.best_group})
        write_bytes(self._folder.best / f"model-round-{state.best_round}.safetensors", arrays)
        about = {
            "round": state.best_round,
            "validation_auc": state.best_auc,
            "model": f"model-round-{state.best_round}.safetensors",
            "training_id": self._folder.name,
            "epoch_starts": list(state.epoch_starts),  # which private versions belong to it
            "schema_hash": self._schema_hash,
            "config": self._config,
        }
        write_json(self._folder.best / "best.json", about)
        for other in self._folder.best.glob("model-round-*.safetensors"):
            if other.name != about["model"]:
                other.unlink()
        self._saved_best = state.best_round

    def _seconds_per_round(self) -> float:
        """The first round starts the engine and is left out as soon as there is another."""
        now = time.monotonic()
        if self._first_done is None:
            self._first_done = now
            return now - self._began
        self._rounds_since += 1
        return (now - self._first_done) / self._rounds_since

    def _warn(self, rejected: list[Any], missing: list[int]) -> None:
        for line in rejection_lines(rejected, missing):
            log.warning(line)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._events:
            self._events.close()

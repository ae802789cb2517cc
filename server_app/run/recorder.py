"""Writes down what a run does as it happens: history, event files, checkpoints, progress lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from logging import getLogger
from types import TracebackType
from typing import Any

import numpy as np
import safetensors.numpy

from mrff.config import RunConfig
from mrff.data.schema import Schema
from mrff.io.files import write_bytes, write_json
from mrff.linear import Mixture
from mrff.wire.requests import RunFacts
from mrff.wire.traffic import Traffic
from server_app.run.checkpoint import Checkpoint, save_checkpoint
from server_app.run.history import History
from server_app.run.progress import evaluation_line, groups_line, rejection_lines, round_line
from server_app.run.run_folder import RunFolder
from strategies.reports import EvaluationReport, GroupsChosen, RoundReport
from strategies.state import TrainingState

log = getLogger("flwr")


@dataclass(frozen=True)
class RunIdentity:
    """What a run's results belong to."""

    config: RunConfig
    schema: Schema

    @property
    def flat(self) -> dict[str, Any]:
        """The configuration, for files."""
        return self.config.to_flat()

    @property
    def untested(self) -> str:
        """Why nothing is tested; empty: something is."""
        if self.config.asks_test:
            return ""
        if self.config.tests:
            return "nothing is tested with evaluation.score-test=false"
        validated = "or validated " if self.config.privacy.is_private else ""
        return f"nothing is tested {validated}with data.holdout=0: every row is to train on"

    def facts(self, training_id: str, lineage: list[str]) -> RunFacts:
        """What nodes are told of the run."""
        return RunFacts(
            schema_hash=self.schema.schema_hash,
            training_id=training_id,
            lineage=lineage,
            ancestors=[version.schema_hash for version in self.schema.ancestors],
            items=self.schema.num_items,
            data_dir=str(self.config.dataset_path),
            state_dir=str(self.config.home / "state"),
        )


class Recorder:
    """The strategy's observer; use it as a context, so that event files are closed."""

    def __init__(self, folder: RunFolder, identity: RunIdentity) -> None:
        self.test: EvaluationReport | None = None
        self._folder, self._identity = folder, identity
        self._rounds = identity.config.server.num_server_rounds
        timed = not identity.config.privacy.is_private
        self._history = History(folder.history, timed=timed)
        self._saved_best = 0
        self._began = time.monotonic()
        self._first_done: float | None = None
        self._rounds_since = 0
        self._events = None
        if identity.config.run.tensorboard:
            from server_app.run.tensorboard_events import EventFile  # brings TensorBoard: 0.25 s

            self._events = EventFile(folder.tensorboard, timed=timed)

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

    def queried(self, what: str, server_round: int, traffic: Traffic) -> None:
        """See `strategies.reports.Observer`."""
        self._history.add_query(what, server_round, traffic)
        self._warn(traffic.rejected, traffic.missing)

    def linear_fitted(self, mixture: Mixture) -> None:
        """See `strategies.reports.Observer`."""
        mixes = mixture.mixes.astype(np.float32)
        arrays = safetensors.numpy.save({**mixture.part.arrays(), "mixes": mixes})
        write_bytes(self._folder.linear, arrays)

    def groups_chosen(self, chosen: GroupsChosen) -> None:
        """See `strategies.reports.Observer`."""
        self._history.add_groups(chosen)
        self._saved_best = 0  # the same round's model, perhaps with other experts
        log.info(groups_line(chosen))
        self._warn(chosen.traffic.rejected, chosen.traffic.missing)

    def save(self, state: TrainingState) -> None:
        """See `strategies.reports.Observer`."""
        if state.best_round not in (0, self._saved_best):
            self._save_best(state)
        checkpoint = Checkpoint(state, self._identity.flat, self._identity.schema.schema_hash)
        save_checkpoint(self._folder.checkpoints, checkpoint)

    def _save_best(self, state: TrainingState) -> None:
        """The best model: shared arrays by their names, and what they belong to."""
        self._folder.best.mkdir(exist_ok=True)
        arrays = safetensors.numpy.save({**state.best_public, **state.best_group})
        write_bytes(self._folder.best / f"model-round-{state.best_round}.safetensors", arrays)
        best_by = self._identity.config.best_by
        about = {
            "round": state.best_round,
            f"validation_{best_by}": state.best_value,
            "model": f"model-round-{state.best_round}.safetensors",
            "training_id": self._folder.name,
            "epoch_starts": list(state.epoch_starts),  # which private versions belong to it
            "lineage": list(state.lineage),
            "schema_hash": self._identity.schema.schema_hash,
            "config": self._identity.flat,
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

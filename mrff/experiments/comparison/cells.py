"""Cells: the runs behind a comparison's rows, each done once and remembered by what it depends on.

A cell is named after its dataset and a fingerprint of every setting and of the data, so that rows
and comparisons that ask for the same run share it, and a changed setting is another cell. Below
``<home>/comparisons/cells`` lie the cells' runs, the nodes' private state, logs, and a record per
cell that has ended.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from client_app.kept_scores import FILE, KeptScores, KeptScoresError, read_scores
from mrff.config import ConfigError, RunConfig
from mrff.experiments.comparison.measures import TESTED, measured
from mrff.experiments.comparison.plan import ComparisonPlan, Row
from mrff.experiments.comparison.reading import Settings
from mrff.io.files import write_json
from server_app.run.absences import where_missing

# Where things lie, and what has said all it says in other settings.
_OF_NO_ACCOUNT = (
    "data.home", "data.data-dir", "run.tensorboard", "run.fit-settings", "evaluation.score-test",
)  # fmt: skip


@dataclass(frozen=True)
class CellOutcome:
    """What a cell came to; measures are None where there are none."""

    status: str  # finished, crashed, missing
    auc: float | None = None
    log_loss: float | None = None
    gauc: float | None = None
    hr10: float | None = None
    ndcg10: float | None = None
    best_round: int | None = None
    seconds: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    error: str = ""  # why it crashed, or what is wrong with a finished one


@dataclass(frozen=True)
class Cell:
    """One run to do, and where its traces are."""

    name: str
    method: str  # the registry's name
    is_federated: bool
    settings: Settings  # complete for `RunConfig.from_flat`, home and run name included
    home: Path

    @property
    def log(self) -> Path:
        """Everything the run said."""
        return self.home / "logs" / f"{self.name}.log"

    @property
    def run(self) -> Path:
        """The run's folder; methods that are not federated have none."""
        return self.home / "runs" / self.name

    @property
    def mark(self) -> str:
        """Of the processes of central cells; they outlive a comparison that is killed."""
        return str(self.home)

    @cached_property
    def config(self) -> RunConfig:
        """The settings of the run."""
        return RunConfig.from_flat(self.settings)

    @property
    def keeps_scores(self) -> bool:
        """Whether nodes may keep test scores: not where users were promised privacy."""
        return not self.config.privacy.is_private

    @property
    def _state(self) -> Path:
        return self.home / "state" / self.name

    @property
    def _record(self) -> Path:
        return self.home / "records" / f"{self.name}.json"

    def prepare(self) -> None:
        """Removes what an earlier try left, so that this one starts from nothing."""
        for folder in (self.run, self._state):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.log.parent, self._record.parent, self._state):
            folder.mkdir(parents=True, exist_ok=True)
        self._record.unlink(missing_ok=True)

    def outcome(self) -> CellOutcome:
        """What is on record; ``missing`` when the cell has not ended, or its scores are gone."""
        if not self._record.is_file():
            return CellOutcome("missing")
        outcome = CellOutcome(**json.loads(self._record.read_text())["outcome"])
        gone = self.keeps_scores and not self._kept
        return CellOutcome("missing") if outcome.status == "finished" and gone else outcome

    def conclude(self, outcome: CellOutcome) -> CellOutcome:
        """Records how the cell ended."""
        about = {"cell": self.name, "method": self.method, "settings": self.settings}
        write_json(self._record, {**about, "outcome": asdict(outcome)})
        return outcome

    @property
    def central_scores(self) -> Path:
        """Where a method that sees all data at once puts its predictions."""
        return self._state / "central" / FILE

    def scores(self) -> KeptScores | None:
        """The users' test predictions; None where the run's privacy mode keeps none.

        Raises:
            KeptScoresError: they should be there and are not, or are damaged.
        """
        return read_scores(self._kept) if self.keeps_scores else None

    @property
    def _kept(self) -> list[Path]:
        """The files with scores, one per node."""
        return sorted(self._state.glob(f"*/{FILE}"))


def cell_of(row: Row, plan: ComparisonPlan, *, home: Path, data: tuple[Path, str]) -> Cell:
    """The cell behind a row.

    Args:
        home: of all comparisons' cells.
        data: the prepared dataset, and what its content is known by.
    """
    folder, content_hash = data
    settings: Settings = {**row.settings, "data.data-dir": str(folder), "data.home": str(home)}
    settings.setdefault("run.tensorboard", False)
    settings.setdefault("run.fit-settings", False)  # a method is what it says, on every dataset
    if not RunConfig.from_flat(settings).tests:
        raise ConfigError(
            "a comparison compares tests, and data.holdout=0 holds nothing out; use data.holdout=1"
        )
    if row.base.is_federated and not RunConfig.from_flat(settings).privacy.is_private:
        settings["evaluation.keep-test-scores"] = True
    depends: dict[str, Any] = {"data": content_hash, **RunConfig.from_flat(settings).to_flat()}
    for key in _OF_NO_ACCOUNT:
        del depends[key]
    if row.base.is_federated:
        depends["nodes"] = plan.nodes
    else:
        depends["method"] = row.base.name
    fingerprint = blake2b(json.dumps(depends, sort_keys=True).encode(), digest_size=6).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", row.dataset).strip("-.") or "data"
    name = f"{plain}-{fingerprint}"
    return Cell(name, row.base.name, row.base.is_federated, {**settings, "run.name": name}, home)


def outcome_of_run(cell: Cell, summary: Mapping[str, Any]) -> CellOutcome:
    """The outcome of a finished federated run, with the measures of the kept scores.

    The server's AUC comes from histograms; where scores are kept it is replaced by the exact one.

    Raises:
        KeptScoresError: the kept scores are not those that the server's numbers came from.
    """
    test = summary["test"]
    of_run = {key: summary[key] for key in ("best_round", "seconds", "bytes_up", "bytes_down")}
    missing = summary.get("nodes_missing")
    of_run["error"] = f"nodes were missing in {where_missing(missing)}" if missing else ""
    of_test = {key: test.get(key) for key in ("auc", "log_loss", "gauc", "hr10", "ndcg10")}
    outcome = CellOutcome(status="finished", **of_test, **of_run)
    scores = cell.scores()
    if scores is None:
        return outcome
    measures = {
        name: float(of([1.0] * len(scores.labels))[0]) for name, of in measured(scores).items()
    }
    bounds = {"auc": float(test.get("auc_error_bound") or 0.0) + 1e-9}
    for name, value in measures.items():
        told = test.get(name)
        if told is not None and abs(value - told) > bounds.get(name, 1e-6):
            raise KeptScoresError(
                f"the nodes' test scores give {TESTED[name].label} {value:.6f}, the server "
                f"measured {told:.6f}; the run cannot be trusted"
            )
    exact = {name: value for name, value in measures.items() if test.get(name) is not None}
    return CellOutcome(**{**asdict(outcome), **exact})


def reason_in(log: Path, otherwise: str) -> str:
    """Why a run failed, as its log says it in one line."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return otherwise
    found = re.findall(r"MRFF stopped: (.+)|^mrff: (.+)", text, flags=re.MULTILINE)
    said = (found[-1][0] or found[-1][1]) if found else otherwise
    return re.sub(r"\x1b\[[0-9;]*m", "", said).strip()

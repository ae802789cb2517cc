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
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from client_app.kept_scores import FILE, KeptScores, KeptScoresError, read_scores
from mrff.config import RunConfig
from mrff.experiments.comparison.bootstrap import RankedScores, user_log_loss
from mrff.experiments.comparison.plan import Plan, Row
from mrff.experiments.comparison.reading import Settings
from mrff.io.files import write_json

Status = str  # finished, crashed, missing


@dataclass(frozen=True)
class Outcome:
    """What a cell came to; measures are None where there are none."""

    status: Status
    auc: float | None = None
    log_loss: float | None = None
    gauc: float | None = None
    best_round: int | None = None
    seconds: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    error: str = ""


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
    def rounds(self) -> int:
        """Rounds the run will do at most."""
        return RunConfig.from_flat(self.settings).server.num_server_rounds

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

    def outcome(self) -> Outcome:
        """What is on record; ``missing`` when the cell has not ended, or its scores are gone."""
        if not self._record.is_file():
            return Outcome("missing")
        outcome = Outcome(**json.loads(self._record.read_text())["outcome"])
        gone = keeps_scores(self.settings) and not self._kept
        return Outcome("missing") if outcome.status == "finished" and gone else outcome

    def conclude(self, outcome: Outcome) -> Outcome:
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
        if not keeps_scores(self.settings):
            return None
        return read_scores(self._kept)

    @property
    def _kept(self) -> list[Path]:
        """The files with scores, one per node."""
        return sorted(self._state.glob(f"*/{FILE}"))


def keeps_scores(settings: Mapping[str, Any]) -> bool:
    """Whether nodes may keep test scores: not where users were promised privacy."""
    return str(settings.get("privacy-mode", "none")) == "none"


def cell_of(row: Row, plan: Plan, *, home: Path, data: Path, content_hash: str) -> Cell:
    """The cell behind a row.

    Args:
        home: of all comparisons' cells.
        data: the prepared dataset.
    """
    settings: Settings = {**row.settings, "data-dir": str(data), "home": str(home)}
    settings.setdefault("tensorboard", False)
    if row.base.is_federated and keeps_scores(settings):
        settings["keep-test-scores"] = True
    whole = RunConfig.from_flat(settings).to_flat()
    left_out = {"home", "data-dir", "tensorboard", *_without_effect(row, whole)}
    depends = {key: value for key, value in whole.items() if key not in left_out}
    depends |= {"data": content_hash}
    if row.base.is_federated:
        depends |= {"nodes": plan.nodes}
    else:
        depends |= {"method": row.base.name}
    text = json.dumps(depends, sort_keys=True).encode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", row.dataset).strip("-.") or "data"
    name = f"{plain}-{blake2b(text, digest_size=6).hexdigest()}"
    settings["run-name"] = name
    return Cell(name, row.base.name, row.base.is_federated, settings, home)


def _without_effect(row: Row, whole: Settings) -> list[str]:
    """Settings that came after cells had been kept, where they change nothing.

    They are no part of the fingerprint there, so that older cells still count.
    """
    balances = row.base.is_federated and whole["num-experts"] != 1 and whole["balance-rate"]
    return [] if balances else ["balance-rate"]


def outcome_of_run(cell: Cell, summary: Mapping[str, Any]) -> Outcome:
    """The outcome of a finished federated run, with AUC and log loss of the kept scores.

    The server's AUC comes from histograms; where scores are kept it is replaced by the exact one.

    Raises:
        KeptScoresError: the kept scores are not those that the server's numbers came from.
    """
    test = summary["test"]
    outcome = Outcome(
        status="finished",
        auc=test["auc"],
        log_loss=test["log_loss"],
        gauc=test["gauc"],
        best_round=summary["best_round"],
        seconds=summary["seconds"],
        bytes_up=summary["bytes_up"],
        bytes_down=summary["bytes_down"],
    )
    scores = cell.scores()
    if scores is None or outcome.auc is None:
        return outcome
    auc, log_loss = measured(scores)
    bound = float(test["auc_error_bound"]) + 1e-9
    if abs(auc - outcome.auc) > bound or abs(log_loss - float(outcome.log_loss or 0)) > 1e-6:
        raise KeptScoresError(
            f"the nodes' test scores give AUC {auc:.6f} and log loss {log_loss:.6f}, the server "
            f"measured {outcome.auc:.6f} and {outcome.log_loss:.6f}; the run cannot be trusted"
        )
    return replace(outcome, auc=auc, log_loss=log_loss)


def measured(scores: KeptScores) -> tuple[float, float]:
    """AUC of all test items pooled, and log loss."""
    everybody = [[1.0] * len(scores.user_keys)]
    auc = RankedScores(scores.logits, scores.labels).auc(everybody)[0]
    return float(auc), float(user_log_loss(scores.logits, scores.labels).mean())


def reason_in(log: Path, otherwise: str) -> str:
    """Why a run failed, as its log says it in one line."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return otherwise
    found = re.findall(r"MRFF stopped: (.+)|^mrff: (.+)", text, flags=re.MULTILINE)
    said = (found[-1][0] or found[-1][1]) if found else otherwise
    return re.sub(r"\x1b\[[0-9;]*m", "", said).strip()

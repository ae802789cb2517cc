"""A program for one cell of a method that sees everybody's data: reads a request, leaves results.

It is a process of its own, so that cells go on side by side and a crash takes nothing along.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from client_app.kept_scores import write_scores
from mrff.config import RunConfig
from mrff.experiments.comparison.cells import Cell, CellOutcome


class CentralCellError(OSError):
    """The program ended without a result."""


def run_central_cell(
    cell: Cell, running: list[subprocess.Popen[bytes]], *, threads: int
) -> CellOutcome:
    """Runs the cell in a process of its own, which is in ``running`` meanwhile.

    Raises:
        CentralCellError: it failed; the cell's log says why.
    """
    request = cell.central_scores.parent / "request.json"
    request.parent.mkdir(parents=True, exist_ok=True)
    answer = request.with_name("outcome.json")
    about = {"method": cell.method, "settings": cell.settings, "scores": str(cell.central_scores)}
    request.write_text(json.dumps(about | {"outcome": str(answer)}))
    with cell.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(request)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        running.append(process)
        status = process.wait()
        running.remove(process)
    if status:
        raise CentralCellError(f"exit status {status}; see {cell.log}")
    return CellOutcome(**json.loads(answer.read_text()))


def main(request: Path) -> int:
    """Runs the method that ``request`` names; errors are one line."""
    from mrff.experiments.central.methods import run_central  # heavy: brings PyTorch

    asked = json.loads(request.read_text())
    try:
        result = run_central(asked["method"], RunConfig.from_flat(asked["settings"]), _note)
    except (ValueError, OSError) as error:
        print(f"mrff: {error}", file=sys.stderr)
        return 2
    write_scores(Path(asked["scores"]), result.scores)
    outcome = CellOutcome(
        status="finished",
        auc=_defined(result.measured.auc),
        log_loss=_defined(result.measured.log_loss),
        best_round=result.best_round,
        seconds=round(result.seconds, 3),
    )
    Path(asked["outcome"]).write_text(json.dumps(asdict(outcome)))
    return 0


def _note(step: int, auc: float, log_loss: float) -> None:
    print(f"step {step} validation auc {auc:.4f} logloss {log_loss:.4f}")


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

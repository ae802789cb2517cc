"""A program for one cell of a method that sees everybody's data: is told the cell, records it.

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
from mrff.experiments.central import Measures
from mrff.experiments.comparison.cells import Cell, CellOutcome
from mrff.ops import processes

NOTED = ("auc", "log_loss", "hr10", "ndcg10")  # of what a cell's method measures


class CentralCellError(OSError):
    """The program ended without a result."""


def run_central_cell(
    cell: Cell, running: list[subprocess.Popen[bytes]], *, threads: int
) -> CellOutcome:
    """Runs the cell in a process of its own, which is in ``running`` meanwhile.

    Raises:
        CentralCellError: it failed; the cell's log says why.
    """
    with cell.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(asdict(cell), default=str)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={
                **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1",
                processes.MARK: cell.mark,
            },
        )  # fmt: skip
        running.append(process)
        status = process.wait()
        running.remove(process)
    if status:
        raise CentralCellError(f"exit status {status}; see {cell.log}")
    return cell.outcome()


def main(asked: str) -> int:
    """Runs the cell ``asked`` for and records what it came to; errors are one line."""
    from mrff.experiments.central.methods import run_central  # heavy: brings PyTorch

    values = json.loads(asked)
    cell = Cell(**{**values, "home": Path(values["home"])})
    try:
        result = run_central(cell.method, cell.config, _note)
    except (ValueError, OSError) as error:
        print(f"mrff: {error}", file=sys.stderr)
        return 2
    write_scores(cell.central_scores, result.scores)
    measured = {n: v for n, v in result.measured.items() if math.isfinite(v)}
    cell.conclude(
        CellOutcome(
            status="finished",
            auc=measured.get("auc"),
            log_loss=measured.get("log_loss"),
            hr10=measured.get("hr10"),
            ndcg10=measured.get("ndcg10"),
            best_round=result.best_round,
            seconds=round(result.seconds, 3),
        )
    )
    return 0


def _note(step: int, measures: Measures) -> None:
    shown = (f"{name} {measures[name]:.4f}" for name in NOTED if name in measures)
    print(f"step {step} validation {' '.join(shown)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Runs the cells that have not ended well yet, several at once on one Flower engine."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mrff.config import RunConfig
from mrff.experiments.comparison.cells import Cell, CellOutcome, outcome_of_run, reason_in
from mrff.experiments.comparison.central_cell import run_central_cell
from mrff.experiments.comparison.plan import ComparisonPlan
from mrff.experiments.comparison.progress import Watch
from mrff.ops import processes
from mrff.ops.engine import FlowerEngine, stop_left_behind
from mrff.ops.federation import Federation
from mrff.ops.simulation import run_on


@dataclass(frozen=True)
class Workplace:
    """How many cells run at once, and the folder of the Flower app."""

    jobs: int
    app: Path


def run_cells(cells: Sequence[Cell], plan: ComparisonPlan, place: Workplace, watch: Watch) -> None:
    """Runs cells and records how each ended; a crash of one does not keep the others from running.

    Args:
        plan: says how many nodes a federated cell has.
        watch: shows what goes on.

    Raises:
        FlowerError: Flower could not be started.
        KeyboardInterrupt: everything that ran was stopped; what had ended is on record.
    """
    engines = RunConfig.from_flat({}).home / "flower"
    stop_left_behind(engines)
    for mark in {cell.mark for cell in cells}:
        processes.stop_marked(mark)
    if not cells:
        return
    with ExitStack() as stack:
        engine = None
        if any(cell.is_federated for cell in cells):
            engine = stack.enter_context(
                FlowerEngine(engines, Federation(plan.nodes, plan.cpus_per_node))
            )
        crew = _Crew(engine, threads=plan.cpus_per_node, app=place.app, watch=watch)
        pool = stack.enter_context(ThreadPoolExecutor(place.jobs))
        pending: set[Future[None]] = {pool.submit(crew.run, cell) for cell in cells}
        try:
            while pending:
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                watch.tick()
        except BaseException:
            crew.stop()
            raise


class _Crew:
    """What the threads share."""

    def __init__(
        self, engine: FlowerEngine | None, *, threads: int, app: Path, watch: Watch
    ) -> None:
        self._engine = engine
        self._threads, self._app = threads, app
        self._watch = watch
        self._stopped = threading.Event()
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, cell: Cell) -> None:
        """One cell, from a clean start to its record."""
        if self._is_over(cell):
            return
        cell.prepare()
        self._watch.begins(cell)
        try:
            outcome = self._outcome(cell)
        except Exception as error:  # whatever it is, the other cells go on
            if self._stopped.is_set():
                return  # it did not crash: it was stopped, and will be done again
            told = str(error) if isinstance(error, ValueError | OSError) else repr(error)
            outcome = CellOutcome("crashed", error=reason_in(cell.log, told))
        self._watch.ended(cell, cell.conclude(outcome))

    def stop(self) -> None:
        """Ends the running cells and keeps the others from starting."""
        self._stopped.set()
        for process in list(self._running):
            process.terminate()
        if self._engine is not None:
            self._engine.stop()

    def _is_over(self, cell: Cell) -> bool:
        """Without a SuperLink the other cells stay undone; they did not crash."""
        engine = self._engine
        lost = cell.is_federated and engine is not None and not engine.is_running
        return self._stopped.is_set() or lost

    def _outcome(self, cell: Cell) -> CellOutcome:
        if not cell.is_federated:
            return run_central_cell(cell, self._running, threads=self._threads)
        assert self._engine is not None
        summary = run_on(self._engine, dict(cell.settings), app=self._app, log=cell.log)
        return outcome_of_run(cell, summary)

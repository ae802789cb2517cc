"""Runs the cells that have not ended well yet, several at once on one Flower engine."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

from mrff.experiments.comparison.cells import Cell, Outcome, outcome_of_run, reason_in
from mrff.experiments.comparison.central_cell import run_central_cell
from mrff.experiments.comparison.progress import Watch
from mrff.ops.engine import FlowerEngine, stop_left_behind
from mrff.ops.simulation import run_on


def run_cells(
    cells: Sequence[Cell],
    *,
    jobs: int,
    nodes: int,
    cpus_per_node: int,
    app: Path | None,
    engines: Path,
    watch: Watch,
) -> None:
    """Runs cells and records how each ended; a crash of one does not keep the others from running.

    Args:
        jobs: cells at once.
        nodes, cpus_per_node: of every federated cell.
        engines: where Flower's own files go.
        watch: shows what goes on.

    Raises:
        FlowerError: Flower could not be started.
        KeyboardInterrupt: everything that ran was stopped; what had ended is on record.
    """
    stop_left_behind(engines)
    if not cells:
        return
    with ExitStack() as stack:
        engine = None
        if any(cell.is_federated for cell in cells):
            engine = stack.enter_context(FlowerEngine(engines))
        crew = _Crew(engine, nodes=nodes, cpus_per_node=cpus_per_node, app=app, watch=watch)
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
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
        self,
        engine: FlowerEngine | None,
        *,
        nodes: int,
        cpus_per_node: int,
        app: Path | None,
        watch: Watch,
    ) -> None:
        self._engine = engine
        self._nodes, self._cpus_per_node, self._app = nodes, cpus_per_node, app
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
            outcome = Outcome("crashed", error=reason_in(cell.log, told))
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

    def _outcome(self, cell: Cell) -> Outcome:
        if not cell.is_federated:
            return run_central_cell(cell, self._running, threads=self._cpus_per_node)
        assert self._engine is not None
        summary = run_on(
            self._engine,
            dict(cell.settings),
            nodes=self._nodes,
            cpus_per_node=self._cpus_per_node,
            app=self._app,
            log=cell.log,
        )
        return outcome_of_run(cell, summary)

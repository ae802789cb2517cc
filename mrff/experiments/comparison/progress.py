"""Shows a comparison at work: bars on a terminal, a line per beginning and end elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from mrff.experiments.comparison.cells import Cell, CellOutcome
from mrff.experiments.comparison.measures import TESTED
from server_app.run.history import read_history
from server_app.run.progress import duration


class Watch:
    """Is told what begins and ends, by several threads; use as a context.

    Args:
        labels: what a cell's name is shown as.
        done, total: cells that need not be run, and all of them.
    """

    def __init__(self, labels: Mapping[str, str], *, done: int, total: int) -> None:
        self._labels = labels
        self._done, self._total = done, total
        self._began = time.monotonic()
        self._lock = threading.RLock()
        self._tasks: dict[str, tuple[Cell, TaskID]] = {}
        self._console = Console(stderr=True, width=None if sys.stderr.isatty() else 200)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
        self._bars = Progress(*columns, console=self._console, disable=not sys.stderr.isatty())
        self._all = self._bars.add_task("runs", total=total, completed=done)

    def begins(self, cell: Cell) -> None:
        """A cell is started."""
        with self._lock:
            label = self._labels[cell.name]
            total = cell.config.server.num_server_rounds if cell.is_federated else None
            self._tasks[cell.name] = cell, self._bars.add_task(f"  {label}", total=total)
            if self._bars.disable:
                self._say(f"begins   {label}")

    def ended(self, cell: Cell, outcome: CellOutcome) -> None:
        """A cell has a record."""
        with self._lock:
            self._done += 1
            _, task = self._tasks.pop(cell.name)
            self._bars.remove_task(task)
            self._bars.update(self._all, completed=self._done)
            if outcome.status == "finished":
                told = "  ".join(
                    f"{tested.label.lower()} {getattr(outcome, name):.4f}"
                    for name, tested in TESTED.items()
                    if getattr(outcome, name) is not None
                )
            else:
                told = outcome.error
            self._say(f"{outcome.status:8} {self._labels[cell.name]}  {told}")

    def tick(self) -> None:
        """Looks how far the running cells are."""
        if self._bars.disable:
            return
        with self._lock:
            for cell, task in self._tasks.values():
                if cell.is_federated:
                    entries = read_history(cell.run / "history.jsonl")
                    rounds = sum(entry["kind"] == "round" for entry in entries)
                    self._bars.update(task, completed=rounds)

    def _say(self, text: str) -> None:
        elapsed = duration(time.monotonic() - self._began)
        self._console.print(
            f"[{self._done}/{self._total}, {elapsed}] {text}", markup=False, highlight=False
        )

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

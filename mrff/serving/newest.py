"""Keeps the newest best model of a run at hand, while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

from mrff.data.schema import SCHEMA_FILE
from mrff.ops.nodes import NodesAtHand
from mrff.serving.served import Served
from server_app.run.run_folder import RunFolder

log = getLogger("flwr")


class Newest:
    """See above; `served` may be another one at every look.

    Args:
        run: whose best model is looked at.
        nodes: finds the best model there is now.
        every: seconds between two looks.

    Raises:
        RunError, DataError, ConfigError: there is no model yet, or it cannot be used.
    """

    def __init__(
        self, run: RunFolder, nodes: Callable[[], NodesAtHand], every: float = 2.0
    ) -> None:
        first = nodes()
        self._files = (run.best / "best.json", first.dataset_folder / SCHEMA_FILE)
        self._nodes, self._every, self._stamps = nodes, every, self._look()
        self.served = Served.loaded(first)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="newest model", daemon=True)

    def start(self) -> None:
        """Looks for newer models, or newer data, from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ends that."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        told: object = None
        while not self._end.wait(self._every):
            stamps = self._look()
            if stamps == self._stamps:
                continue
            try:
                self.served = Served.loaded(self._nodes())
            except (ValueError, OSError) as error:  # it may be being written: look again
                if str(error) != told:
                    log.warning("the newest model cannot be used, the last one stays: %s", error)
                told = str(error)
            else:
                self._stamps = stamps
                log.info("the model of round %d answers from now on", self.served.best.round)

    def _look(self) -> list[int]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> int:
    """Another number for another content; 0 where there is none."""
    return file.stat().st_mtime_ns if file.exists() else 0

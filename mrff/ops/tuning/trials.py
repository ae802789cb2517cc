"""One trial: a run through Flower, watched while it goes on, and ended early if it is no good."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrff.config import RunConfig
from mrff.ops.control import FlowerError
from mrff.ops.engine import FlowerEngine
from mrff.ops.federation import Federation
from mrff.ops.simulation import Values, run_on
from server_app.run.history import read_history
from server_app.run.run_folder import RunFolder

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Standing:
    """How far a run is: rounds done, the seconds that all of them will take, validations so far."""

    seconds: float  # since it was started
    whole: float | None  # seconds that the whole run takes, as its rounds say; None: too early
    validations: dict[int, float]  # by round


class StoppedError(Exception):
    """The watcher did not want the rest of a run."""


@dataclass(frozen=True)
class Workshop:
    """Where trials are run.

    Args:
        home: of their runs, private state and logs.
        app: folder of the Flower app.
    """

    home: Path
    nodes: int
    cpus_per_node: int
    app: Path

    def run(self, name: str, values: Values, watch: Callable[[Standing], bool]) -> float | None:
        """Runs the settings and returns the best validation; what the run wrote is removed.

        Args:
            watch: asked several times a second; False ends the run.

        Raises:
            FlowerError: the run failed; its log stays.
            StoppedError: ``watch`` ended it.
        """
        values = {**values, "run.name": name, "data.home": str(self.home)}
        config = RunConfig.from_flat(values)
        folder, log = RunFolder(self.home / "runs" / name), self.home / f"{name}.log"
        self.home.mkdir(parents=True, exist_ok=True)
        # An engine each: to end a run is to end its engine, and nothing of it is left.
        engine = FlowerEngine(self.home / "flower", Federation(self.nodes, self.cpus_per_node))
        try:
            with ThreadPoolExecutor(1) as thread, engine:
                began = time.monotonic()
                running = thread.submit(run_on, engine, values, app=self.app, log=log)
                while not running.done():
                    if not watch(_standing(folder, config, time.monotonic() - began)):
                        raise StoppedError
                    time.sleep(_POLL_SECONDS)
                summary: dict[str, Any] = running.result()
        except FlowerError:
            raise
        except BaseException:  # ended by us: nothing failed that an engine's folder could explain
            shutil.rmtree(engine.folder, ignore_errors=True)
            log.unlink(missing_ok=True)
            raise
        finally:
            for left in (folder.path, self.home / "state" / name):
                shutil.rmtree(left, ignore_errors=True)
        log.unlink(missing_ok=True)
        best: float | None = summary[f"validation_{summary['best_by']}"]
        return best


def _standing(folder: RunFolder, config: RunConfig, seconds: float) -> Standing:
    """As the run's own history says it."""
    entries = read_history(folder.history)
    rounds = [entry for entry in entries if entry["kind"] == "round"]
    name = config.best_by
    measured = {
        int(entry["round"]): float(entry[name])
        for entry in entries
        if entry["kind"] == "validation" and entry.get(name) is not None
    }
    whole = None
    if len(rounds) > 2:  # the first one waits for the nodes to start
        each = sum(entry["seconds"] for entry in rounds[1:]) / (len(rounds) - 1)
        whole = seconds + each * (config.server.num_server_rounds - len(rounds))
    return Standing(seconds, whole, measured)

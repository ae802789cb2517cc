"""``mrff compare``: runs a grid of methods, datasets and seeds, and tests the differences."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrff.config import ConfigError, RunConfig
from mrff.data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mrff.experiments.comparison.cells import Cell, Outcome
    from mrff.experiments.comparison.plan import Plan, Row

_SHARED = "MRFF_SHARED_DATA"


def add_parser(subparsers: Any) -> None:
    """Adds ``compare``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser(
        "compare",
        help="run methods on datasets with seeds, and test the differences",
        usage="mrff compare CONFIG [CONFIG ...] [options]",
    )
    command.add_argument(
        "plans", type=Path, nargs="+", metavar="CONFIG", help="what to compare, as conf/compare-*"
    )
    only = command.add_argument_group("a part of it, with the file's settings")
    only.add_argument("--methods", nargs="+", default=(), metavar="NAME", help="these alone")
    only.add_argument("--datasets", nargs="+", default=(), metavar="NAME", help="these alone")
    only.add_argument("--seeds", nargs="+", type=int, default=(), metavar="N", help="these alone")
    only.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting of every run; wins over the file, but not over what a method is",
    )  # fmt: skip
    only.add_argument(
        "--name", default="", help="of the folder of results (the comparison's, with -part)"
    )
    command.add_argument(
        "--jobs", type=_positive, metavar="N", help="runs at once (one for every two processors)"
    )
    command.add_argument("--app", type=Path, help="folder of the Flower app (this checkout)")
    command.set_defaults(handler=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from mrff.experiments.comparison.plan import (  # pandas and rich come with what follows
        Part,
        read_plan,
    )
    from mrff.ops.simulation import app_folder, read_settings

    app = app_folder(arguments.app)
    part = Part(
        arguments.methods, arguments.datasets, arguments.seeds,
        read_settings(None, arguments.changes), arguments.name,
    )  # fmt: skip
    plans = [read_plan(path, presets=app / "conf", part=part) for path in arguments.plans]
    names = [plan.name for plan in plans]
    if len(set(names)) < len(names):
        raise ConfigError(f"every comparison needs a name of its own, got {', '.join(names)}")
    home = RunConfig.from_flat({}).home / "comparisons"
    jobs = arguments.jobs or max(1, (os.cpu_count() or 1) // 2)
    with _alone(home):
        data = {plan.name: _prepare(plan) for plan in plans}  # all of them before any run
        done = [_one(plan, data[plan.name], home, app, jobs) for plan in plans]
    return 0 if all(done) else 1


def _one(plan: Plan, data: dict[str, tuple[Path, str]], home: Path, app: Path, jobs: int) -> bool:
    """One comparison, from its first missing run to its tables; whether all is finished."""
    from mrff.experiments.comparison.cells import cell_of
    from mrff.experiments.comparison.progress import Watch
    from mrff.experiments.comparison.running import run_cells

    cells = []
    for row in plan.rows:
        folder, content_hash = data[row.dataset]
        cell = cell_of(row, plan, home=home / "cells", data=folder, content_hash=content_hash)
        cells.append((row, cell))
    labels: dict[str, str] = {}
    for row, cell in cells:
        labels.setdefault(cell.name, row.label)
    every = {cell.name: cell for _, cell in cells}
    missing = [cell for cell in every.values() if cell.outcome().status != "finished"]
    finished = len(every) - len(missing)
    print(f"{plan.name}: {len(every)} runs, {finished} of them finished before", file=sys.stderr)
    with Watch(labels, done=finished, total=len(every)) as watch:
        run_cells(
            missing, jobs=jobs, nodes=plan.nodes, cpus_per_node=plan.cpus_per_node, app=app,
            engines=home.parent / "flower", watch=watch,
        )  # fmt: skip
    return _write(plan, [(row, cell, cell.outcome()) for row, cell in cells], home / plan.name)


def _write(plan: Plan, runs: Sequence[tuple[Row, Cell, Outcome]], folder: Path) -> bool:
    from rich.console import Console

    from mrff.experiments.comparison import results, tables
    from mrff.io.files import write_bytes, write_json

    folder.mkdir(parents=True, exist_ok=True)
    frame = results.results_frame(runs)
    found = results.comparisons(plan, runs, note=lambda dataset: _tests(plan, dataset))
    results.write_frames(
        folder, {"results": frame, "comparisons": results.comparisons_frame(found)}
    )
    made = tables.tables(plan, frame, found)
    undone = [
        f"{row.label}: {outcome.error or 'not run'} ({cell.log})"
        for row, cell, outcome in runs
        if outcome.status != "finished"
    ]
    write_bytes(folder / "tables.md", tables.markdown(plan, made, undone).encode())
    write_json(folder / "comparison.json", _about(plan, runs))
    console = Console(width=None if sys.stdout.isatty() else 240)
    for table in made:
        console.print(tables.terminal(table))
        for note in table.notes:
            console.print(f"  {note}", markup=False, highlight=False)
        console.print()
    print(tables.legend(plan))
    print(f"results: {folder}")
    for line in undone:
        print(f"mrff: not finished: {line}", file=sys.stderr)
    if undone:
        print("mrff: the same command runs what is not finished again", file=sys.stderr)
    return not undone


def _tests(plan: Plan, dataset: str) -> None:
    resamples = f"{plan.statistics.resamples:,}"
    print(f"testing differences on {dataset}, {resamples} resamples", file=sys.stderr)


def _about(plan: Plan, runs: Sequence[tuple[Row, Cell, Outcome]]) -> dict[str, Any]:
    """What the numbers came from."""
    return {
        "name": plan.name,
        "config": str(plan.path.absolute()),
        "reference": plan.reference,
        "datasets": plan.datasets,
        "methods": plan.methods,
        "seeds": plan.seeds,
        "nodes": plan.nodes,
        "resamples": plan.statistics.resamples,
        "confidence": plan.statistics.confidence,
        "significance": plan.statistics.significance,
        "version": _version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cells": {row.label: cell.name for row, cell, _ in runs},
    }


def _version() -> str:
    try:
        return importlib.metadata.version("mrff")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _prepare(plan: Plan) -> dict[str, tuple[Path, str]]:
    """The prepared folder and the content hash of every dataset; prepares what is not there.

    Raises:
        DataError: a dataset that is unknown or has no source.
    """
    from mrff.cli.data_commands import dataset_folder, show_progress
    from mrff.data.prepare import prepare
    from mrff.data.recipes import RECIPES
    from mrff.data.schema import Schema

    found = {}
    for name in plan.datasets:
        try:
            folder = dataset_folder(name)
        except DataError:
            if name not in RECIPES:
                raise DataError(
                    f"{plan.path}: {name!r} is neither prepared nor one of {', '.join(RECIPES)}"
                ) from None
            source = plan.sources.get(name) or _shared(name)
            if source is None and not RECIPES[name].default_source:
                raise DataError(
                    f"{plan.path}: {name} is not prepared, and nothing says where its files are; "
                    f'add {name} = "PATH" under [sources], set {_SHARED} to the folder that has '
                    f"{name}, or run: mrff data prepare {name} --from PATH"
                ) from None
            folder = RunConfig.from_flat({"dataset": name}).dataset_path
            with show_progress() as progress:
                prepare(name, source=source, out=folder, progress=progress)
        found[name] = folder, Schema.load(folder).content_hash
    return found


def _shared(name: str) -> Path | None:
    """The dataset's folder among the shared ones: its name, or the one that begins with it."""
    shared = os.environ.get(_SHARED)
    if not shared:
        return None
    exact = Path(shared) / name
    if exact.exists():
        return exact
    begun = sorted(path for path in Path(shared).glob(f"{name}-*") if path.is_dir())
    return begun[0] if len(begun) == 1 else None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keeps a second comparison out of this home: they share cells."""
    from filelock import FileLock, Timeout

    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another mrff compare works in {home}; wait for it, or set MRFF_HOME to another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _positive(text: str) -> int:
    from mrff.cli.run_command import positive

    return positive(text)

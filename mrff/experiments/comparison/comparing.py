"""Whole comparisons: their data, the runs that are missing, the tests, the files of results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import AcquireReturnProxy, FileLock, Timeout

from mrff.config import ConfigError, RunConfig
from mrff.data.errors import DataError
from mrff.data.recipes import RECIPES
from mrff.data.schema import Schema
from mrff.experiments.comparison import tables
from mrff.experiments.comparison.cells import cell_of
from mrff.experiments.comparison.files import Runs, frames_of, write_comparison
from mrff.experiments.comparison.plan import ComparisonPlan
from mrff.experiments.comparison.progress import Watch
from mrff.experiments.comparison.results import comparisons
from mrff.experiments.comparison.running import Workplace, run_cells
from mrff.io.files import write_bytes
from mrff.ops.datasets import dataset_folder, prepare_dataset

_SHARED = "MRFF_SHARED_DATA"


@dataclass(frozen=True)
class Compared:
    """What a comparison found, and where it is written."""

    plan: ComparisonPlan
    folder: Path
    frames: dict[str, pd.DataFrame]  # results: a line per run; comparisons: per difference
    tables: list[tables.DatasetTable]
    undone: list[str]  # which runs are not finished, and why

    def numbers(self) -> dict[str, Any]:
        """For programs."""
        frames = {n: json.loads(f.to_json(orient="records")) for n, f in self.frames.items()}
        return {"name": self.plan.name, "folder": str(self.folder), **frames, "undone": self.undone}


def compare_all(plans: Sequence[ComparisonPlan], place: Workplace) -> Iterator[Compared]:
    """Comparisons one after the other; the data of all of them is prepared before any run.

    Raises:
        ConfigError: two have the same name, or another process compares in this home.
        DataError: a dataset that is unknown or has no source.
        FlowerError: Flower could not be started.
    """
    names = [plan.name for plan in plans]
    if len(set(names)) < len(names):
        raise ConfigError(f"every comparison needs a name of its own, got {', '.join(names)}")
    home = RunConfig.from_flat({}).home / "comparisons"
    with _alone(home):
        data = {plan.name: _prepare(plan) for plan in plans}
        for plan in plans:
            yield _one(plan, data[plan.name], home, place)


def _one(
    plan: ComparisonPlan, data: dict[str, tuple[Path, str]], home: Path, place: Workplace
) -> Compared:
    """One comparison, from its first missing run to its files."""
    cells = [
        (row, cell_of(row, plan, home=home / "cells", data=data[row.dataset])) for row in plan.rows
    ]
    labels: dict[str, str] = {}
    for row, cell in cells:
        labels.setdefault(cell.name, row.label)
    every = {cell.name: cell for _, cell in cells}
    missing = [cell for cell in every.values() if cell.outcome().status != "finished"]
    finished = len(every) - len(missing)
    print(f"{plan.name}: {len(every)} runs, {finished} of them finished before", file=sys.stderr)
    with Watch(labels, done=finished, total=len(every)) as watch:
        run_cells(missing, plan, place, watch)
    return _write(plan, [(row, cell, cell.outcome()) for row, cell in cells], home / plan.name)


def _write(plan: ComparisonPlan, runs: Runs, folder: Path) -> Compared:
    folder.mkdir(parents=True, exist_ok=True)
    found = comparisons(plan, runs, note=lambda dataset: _say_tests(plan, dataset))
    frames = frames_of(runs, found)
    write_comparison(folder, frames, _about(plan, runs))
    made = tables.tables(plan, frames["results"], frames["comparisons"])
    undone = [
        f"{row.label}: {outcome.error or 'not run'} ({cell.log})"
        for row, cell, outcome in runs
        if outcome.status != "finished"
    ]
    write_bytes(folder / "tables.md", tables.markdown(plan, made, undone).encode())
    return Compared(plan, folder, frames, made, undone)


def _say_tests(plan: ComparisonPlan, dataset: str) -> None:
    resamples = f"{plan.statistics.resamples:,}"
    print(f"testing differences on {dataset}, {resamples} resamples", file=sys.stderr)


def _about(plan: ComparisonPlan, runs: Runs) -> dict[str, Any]:
    """What the numbers came from."""
    try:
        version = importlib.metadata.version("mrff")
    except importlib.metadata.PackageNotFoundError:
        version = "of a checkout that is not installed"
    statistics = plan.statistics
    return {
        "name": plan.name,
        "config": str(plan.path.absolute()),
        **{k: getattr(plan, k) for k in ("reference", "datasets", "methods", "seeds", "nodes")},
        **{k: getattr(statistics, k) for k in ("resamples", "confidence", "significance")},
        "version": version,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "marks": {dataset: tables.marks_of(plan, dataset) for dataset in plan.datasets},
        "cells": {row.label: cell.name for row, cell, _ in runs},
    }


def _prepare(plan: ComparisonPlan) -> dict[str, tuple[Path, str]]:
    """The prepared folder of every dataset, and its content; prepares what is not there.

    Raises:
        DataError: a dataset that is unknown or has no source.
    """
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
            folder = RunConfig.from_flat({"data.dataset": name}).dataset_path
            prepare_dataset(name, source=source, out=folder)
        found[name] = folder, content_of(Schema.load(folder))
    return found


def content_of(schema: Schema) -> str:
    """What runs depend on: the rows, and what kind they are, as objectives follow it."""
    return " ".join([schema.content_hash, *([] if schema.kind == "labelled" else [schema.kind])])


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


def _alone(home: Path) -> AcquireReturnProxy[Any]:
    """Keeps a second comparison out of this home, as a context: they share cells."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(home / ".lock", timeout=0).acquire()
    except Timeout:
        raise ConfigError(
            f"another mrff compare works in {home}; wait for it, or set MRFF_HOME to another folder"
        ) from None

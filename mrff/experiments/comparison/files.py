"""The files of a comparison, written and read again: a line per run, a line per difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from mrff.experiments.comparison.cells import Cell, CellOutcome
from mrff.experiments.comparison.plan import Row
from mrff.experiments.comparison.results import Comparison
from mrff.io.files import write_bytes, write_json
from mrff.ops.trained_run import RunError

Runs = Sequence[tuple[Row, Cell, CellOutcome]]
RESULTS = (
    "dataset", "method", "seed", "auc", "log_loss", "gauc", "hr10", "ndcg10", "best_round",
    "seconds", "bytes_up", "bytes_down", "status", "error", "kind", "run",
)  # fmt: skip
COMPARISONS = tuple(field.name for field in fields(Comparison))
_TEXTS = {"dataset", "method", "reference", "metric", "status", "error", "kind", "run", "note"}
_WHOLE = ("seed", "best_round", "bytes_up", "bytes_down", "users", "seeds")
_MEASURED = ("auc", "log_loss", "gauc", "hr10", "ndcg10", "seconds")
_AGAIN = "run mrff compare again"


def frames_of(runs: Runs, found: Sequence[Comparison]) -> dict[str, pd.DataFrame]:
    """A line per run, in the order of the plan, and a line per comparison, by the file's name."""
    lines = [
        {
            "dataset": row.dataset,
            "method": row.method,
            "seed": row.seed,
            **asdict(outcome),
            "kind": row.base.kind,
            "run": str(cell.run) if row.base.is_federated else "",
        }
        for row, cell, outcome in runs
    ]
    results = pd.DataFrame(lines, columns=list(RESULTS))
    results = results.astype(dict.fromkeys(_MEASURED, float))
    differences = pd.DataFrame([asdict(line) for line in found], columns=list(COMPARISONS))
    # Whole numbers that may be missing stay whole numbers.
    return {
        name: frame.astype({column: "Int64" for column in _WHOLE if column in frame})
        for name, frame in (("results", results), ("comparisons", differences))
    }


def write_comparison(
    folder: Path, frames: Mapping[str, pd.DataFrame], about: Mapping[str, Any]
) -> None:
    """Each frame as ``NAME.csv`` and ``NAME.parquet``, and what the numbers came from."""
    for name, frame in frames.items():
        write_bytes(folder / f"{name}.csv", frame.to_csv(index=False).encode())
        content: Any = frame.to_parquet(index=False)
        write_bytes(folder / f"{name}.parquet", content)
    write_json(folder / "comparison.json", about)


def is_comparison(folder: Path) -> bool:
    """Whether ``mrff compare`` wrote into the folder."""
    return any((folder / f"{name}.csv").exists() for name in ("results", "comparisons"))


def read_comparison(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The runs, the differences to the reference, and the settings (empty where not written).

    Raises:
        RunError: a file is missing, damaged, or empty.
    """
    results = _read(folder / "results.csv", RESULTS)
    found = _read(folder / "comparisons.csv", COMPARISONS)
    if results.empty:
        raise RunError(f"{folder / 'results.csv'} has no rows: nothing was compared yet")
    about = folder / "comparison.json"
    try:
        return results, found, dict(json.loads(about.read_bytes())) if about.exists() else {}
    except (OSError, ValueError) as error:
        raise RunError(f"{about} is damaged ({error}): {_AGAIN}") from error


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.exists():
        raise RunError(f"{path} is missing: {_AGAIN}")
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({' '.join(str(error).split())}): {_AGAIN}") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise RunError(f"{path} has no column {missing[0]!r}: {_AGAIN}")
    for name in set(columns) - _TEXTS:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        bad = frame[name].notna() & numbers.isna()
        if bad.any():
            told = f"{frame[name][bad].iloc[0]!r} is no number"
            raise RunError(f"{path}, column {name!r}: {told}: {_AGAIN}")
        frame[name] = numbers
    return frame

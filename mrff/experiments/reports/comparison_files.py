"""Reads what ``mrff compare`` wrote: a line per run, a line per difference, and the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mrff.ops.trained_run import RunError

RESULTS_FILE, COMPARISONS_FILE, ABOUT_FILE = "results.csv", "comparisons.csv", "comparison.json"
_RESULTS = (
    "dataset", "method", "seed", "auc", "log_loss", "best_round", "seconds", "status", "error",
)  # fmt: skip
_COMPARISONS = (
    "dataset", "method", "reference", "metric", "difference", "low", "high", "p_holm", "note",
)  # fmt: skip
_TEXTS = {"dataset", "method", "reference", "metric", "status", "error", "note"}


def is_comparison(folder: Path) -> bool:
    """Whether ``mrff compare`` wrote into the folder."""
    return (folder / RESULTS_FILE).exists() or (folder / COMPARISONS_FILE).exists()


def read_comparison(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The runs, the differences to the reference, and the settings (empty where not written).

    Raises:
        RunError: a file is missing, damaged, or empty.
    """
    results = _read(folder / RESULTS_FILE, _RESULTS)
    found = _read(folder / COMPARISONS_FILE, _COMPARISONS)
    if results.empty:
        raise RunError(f"{folder / RESULTS_FILE} has no rows: nothing was compared yet")
    return results, found, _about(folder / ABOUT_FILE)


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.exists():
        raise RunError(f"{path} is missing: run mrff compare again")
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise RunError(f"{path} is damaged ({text}): run mrff compare again") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise RunError(f"{path} has no column {missing[0]!r}: run mrff compare again")
    for name in set(columns) - _TEXTS:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        bad = frame[name].notna() & numbers.isna()
        if bad.any():
            raise RunError(
                f"{path}, column {name!r}: {frame[name][bad].iloc[0]!r} is no number: "
                "run mrff compare again"
            )
        frame[name] = numbers
    return frame


def _about(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): run mrff compare again") from error
    return dict(content)

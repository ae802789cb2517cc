"""What a comparison found: a line per run, and a line per method, dataset and metric against the
reference.
"""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from client_app.kept_scores import KeptScores
from mrff.experiments.comparison.bootstrap import (
    METRICS,
    Difference,
    holm,
    paired_difference,
    resampled,
)
from mrff.experiments.comparison.cells import Cell, CellOutcome
from mrff.experiments.comparison.plan import ComparisonPlan, Row, Statistics
from mrff.io.files import write_bytes

RESULTS = (
    "dataset", "method", "seed", "auc", "log_loss", "gauc", "best_round", "seconds",
    "bytes_up", "bytes_down", "status", "error", "kind", "run",
)  # fmt: skip
_WHOLE = ("seed", "best_round", "bytes_up", "bytes_down", "users", "seeds")
Seeded = Mapping[int | None, KeptScores]  # None: the method draws nothing


@dataclass(frozen=True)
class Comparison:
    """Method minus reference on one dataset; a NaN is empty in the file, ``note`` says why."""

    dataset: str
    method: str
    reference: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    users: int
    seeds: int
    note: str = ""


def results_frame(runs: Sequence[tuple[Row, Cell, CellOutcome]]) -> pd.DataFrame:
    """A line per run with the columns `RESULTS`, in the order of the plan."""
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
    frame = pd.DataFrame(lines, columns=list(RESULTS))
    for name in ("auc", "log_loss", "gauc", "seconds"):
        frame[name] = frame[name].astype(float)
    return _whole(frame)


def comparisons(
    plan: ComparisonPlan,
    runs: Sequence[tuple[Row, Cell, CellOutcome]],
    note: Callable[[str], None] = lambda dataset: None,
) -> list[Comparison]:
    """Every method against the reference on every dataset; Holm's family is all of them.

    Args:
        note: told of every dataset before its resamples are drawn, which can take a minute.
    """
    found: list[Comparison] = []
    for dataset in plan.datasets:
        note(dataset)
        scores: dict[str, dict[int | None, KeptScores]] = {}
        for row, cell, outcome in runs:
            if row.dataset == dataset and outcome.status == "finished":
                kept = cell.scores()
                if kept is not None:
                    scores.setdefault(row.method, {})[row.seed] = kept
        others = [method for method in plan.methods if method != plan.reference]
        found += compare_scores(dataset, plan.reference, others, scores, plan.statistics)
    corrected = holm([line.p_value for line in found])
    return [replace(line, p_holm=p) for line, p in zip(found, corrected, strict=True)]


def compare_scores(
    dataset: str,
    reference: str,
    methods: Sequence[str],
    scores: Mapping[str, Seeded],
    statistics: Statistics,
) -> list[Comparison]:
    """Each method against the reference, on the users and with the seeds that both have.

    Args:
        scores: by method and seed; users are matched by their key.
    """
    seeds: dict[str, list[int | None]] = {}
    notes: dict[str, str] = {}
    for method in methods:
        seeds[method], notes[method] = _common_seeds(scores, method, reference)
    usable = [m for m in (*methods, reference) if scores.get(m) and not notes.get(m)]
    keys = [kept.user_keys for method in usable for kept in scores[method].values()]
    users = functools.reduce(np.intersect1d, keys) if keys else np.zeros(0, dtype=np.uint64)
    aligned = {
        method: {seed: _of_users(kept, users) for seed, kept in scores[method].items()}
        for method in usable
    }
    for method in aligned.keys() - {reference}:
        if not _same_items([*aligned[method].values(), *aligned[reference].values()]):
            notes[method] = "tested on other items than the reference"
            del aligned[method]
    key = [statistics.seed, zlib.crc32(dataset.encode())]
    drawn = _differences(aligned, seeds, reference, statistics, key) if len(aligned) > 1 else {}
    lines = []
    for method, metric in itertools.product(methods, METRICS):
        result = drawn.get((method, metric), Difference(math.nan, math.nan, math.nan, math.nan))
        note = notes[method] or _too_little(_labels(aligned[method]), metric, statistics)
        if note:
            result = Difference(result.difference, math.nan, math.nan, math.nan)
        lines.append(
            Comparison(
                dataset, method, reference, metric, **asdict(result), p_holm=math.nan,
                users=len(users) if method in aligned else 0, seeds=len(seeds[method]), note=note,
            )
        )  # fmt: skip
    return lines


def _differences(
    scores: Mapping[str, Seeded],
    seeds: Mapping[str, Sequence[int | None]],
    reference: str,
    statistics: Statistics,
    key: Sequence[int],
) -> dict[tuple[str, str], Difference]:
    """Method minus reference by method and metric, all of them on the same resamples of users.

    Args:
        scores: of the methods and the reference, on the same users and items.
        seeds: of every method, those that are compared.
        key: of the draws.
    """
    logits = {m: np.stack([kept.logits for kept in runs.values()]) for m, runs in scores.items()}
    labels = _labels(scores[reference])
    enough = len(labels) >= statistics.min_users
    drawn = resampled(
        logits, labels, resamples=statistics.resamples if enough else 1, seed=[*key, 0]
    )

    def rows(name: str, metric: str, wanted: Sequence[int | None]) -> np.ndarray:
        known = list(scores[name])
        return drawn[metric][name][[known.index(s if s in known else None) for s in wanted]]

    return {
        (method, metric): paired_difference(
            rows(method, metric, seeds[method]),
            rows(reference, metric, seeds[method]),
            confidence=statistics.confidence,
            seed=[*key, 1],
        )
        for method in scores
        if method != reference
        for metric in METRICS
    }


def _common_seeds(
    scores: Mapping[str, Seeded], method: str, reference: str
) -> tuple[list[int | None], str]:
    """Seeds for which both have scores, and why they cannot be compared, if so."""
    for name in (reference, method):
        if not scores.get(name):
            return [], f"no run of {name} left test scores"
    ours, theirs = set(scores[method]), set(scores[reference])
    if None in ours:
        common = theirs
    elif None in theirs:
        common = ours
    else:
        common = ours & theirs
    if not common:
        return [], f"no seed of which both {method} and {reference} finished"
    return sorted(common, key=lambda seed: -1 if seed is None else seed), ""


def _of_users(kept: KeptScores, users: np.ndarray) -> KeptScores:
    """The scores of the given users, who are all there, in the given order."""
    places = np.searchsorted(kept.user_keys, users)
    return KeptScores(users, kept.logits[places], kept.labels[places])


def _same_items(runs: Sequence[KeptScores]) -> bool:
    return all(np.array_equal(kept.labels, runs[-1].labels) for kept in runs)


def _too_little(labels: np.ndarray, metric: str, statistics: Statistics) -> str:
    """Why there is no test, if so."""
    if len(labels) < statistics.min_users:
        return f"too few users for a test: {len(labels)}, min-users is {statistics.min_users}"
    if metric == "auc" and len(np.unique(labels)) < 2:
        return "the test items have one class only: no AUC"
    return ""


def _labels(runs: Seeded) -> np.ndarray:
    return next(iter(runs.values())).labels  # the same in all of them


def comparisons_frame(found: Sequence[Comparison]) -> pd.DataFrame:
    """A line per comparison; the columns are the fields of `Comparison`."""
    columns = list(Comparison.__dataclass_fields__)
    return _whole(pd.DataFrame([asdict(line) for line in found], columns=columns))


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers that may be missing stay whole numbers."""
    return frame.astype({name: "Int64" for name in _WHOLE if name in frame})


def write_frames(folder: Path, frames: Mapping[str, pd.DataFrame]) -> None:
    """Each frame as ``NAME.csv`` and ``NAME.parquet``."""
    for name, frame in frames.items():
        write_bytes(folder / f"{name}.csv", frame.to_csv(index=False).encode())
        content: Any = frame.to_parquet(index=False)
        write_bytes(folder / f"{name}.parquet", content)

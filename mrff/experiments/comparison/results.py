"""What a comparison found: a line per run, and a line per method, dataset and metric against the
reference.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from mrff.experiments.comparison.cells import Cell, Outcome
from mrff.experiments.comparison.plan import Plan, Row, Statistics
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


def results_frame(runs: Sequence[tuple[Row, Cell, Outcome]]) -> pd.DataFrame:
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
    plan: Plan,
    runs: Sequence[tuple[Row, Cell, Outcome]],
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
    return [
        Comparison(**(asdict(line) | {"p_holm": p}))
        for line, p in zip(found, corrected, strict=True)
    ]


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
    compared: dict[str, tuple[list[int | None], str]] = {}
    for method in methods:
        compared[method] = _common_seeds(scores, method, reference)
    usable = {m: seeds for m, (seeds, note) in compared.items() if not note}
    users = _common_users([scores[m] for m in (*usable, reference) if m in scores])
    labels = _of_users(_first(scores[reference]), users).labels if usable else np.zeros((0, 1))
    for method in list(usable):
        if not all(_same_items(kept, users, labels) for kept in scores[method].values()):
            compared[method] = usable.pop(method), "tested on other items than the reference"
    lines = []
    drawn = _draw(dataset, reference, usable, scores, users, labels, statistics)
    for method in methods:
        seeds, note = compared[method]
        for metric in METRICS:
            result = Difference(math.nan, math.nan, math.nan, math.nan)
            if method in usable:
                result = drawn[metric, method]
                told = _too_little(labels, metric, statistics)
                if told:
                    note = told
                    result = Difference(result.difference, math.nan, math.nan, math.nan)
            counted = (len(users), len(seeds)) if method in usable else (0, len(seeds))
            lines.append(
                Comparison(
                    dataset,
                    method,
                    reference,
                    metric,
                    result.difference,
                    result.low,
                    result.high,
                    result.p_value,
                    math.nan,
                    *counted,
                    note=note,
                )
            )
    return lines


def _draw(
    dataset: str,
    reference: str,
    usable: Mapping[str, list[int | None]],
    scores: Mapping[str, Seeded],
    users: np.ndarray,
    labels: np.ndarray,
    statistics: Statistics,
) -> dict[tuple[str, str], Difference]:
    """The differences by metric and method, all of them on the same resamples of users."""
    if not usable:
        return {}
    runs: dict[str, list[int | None]] = {m: list(scores[m]) for m in (*usable, reference)}
    logits = {
        method: np.stack([_of_users(scores[method][seed], users).logits for seed in seeds])
        for method, seeds in runs.items()
    }
    key = [statistics.seed, zlib.crc32(dataset.encode())]
    enough = len(users) >= statistics.min_users
    drawn = resampled(
        logits, labels, resamples=statistics.resamples if enough else 1, seed=[*key, 0]
    )

    def rows(method: str, metric: str, seeds: Sequence[int | None]) -> np.ndarray:
        places = [runs[method].index(s if s in runs[method] else None) for s in seeds]
        return drawn[metric][method][places]

    return {
        (metric, method): paired_difference(
            rows(method, metric, seeds),
            rows(reference, metric, seeds),
            confidence=statistics.confidence,
            seed=[*key, 1],
        )
        for metric in METRICS
        for method, seeds in usable.items()
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


def _common_users(seeded: Sequence[Seeded]) -> np.ndarray:
    keys: np.ndarray | None = None
    for runs in seeded:
        for kept in runs.values():
            known = kept.user_keys
            keys = known if keys is None else np.intersect1d(keys, known, assume_unique=True)
    return np.zeros(0, dtype=np.uint64) if keys is None else keys


def _of_users(kept: KeptScores, users: np.ndarray) -> KeptScores:
    """The scores of the given users, who are all there, in the given order."""
    places = np.searchsorted(kept.user_keys, users)
    return KeptScores(users, kept.logits[places], kept.labels[places])


def _same_items(kept: KeptScores, users: np.ndarray, labels: np.ndarray) -> bool:
    return np.array_equal(_of_users(kept, users).labels, labels)


def _too_little(labels: np.ndarray, metric: str, statistics: Statistics) -> str:
    if len(labels) < statistics.min_users:
        return f"too few users for a test: {len(labels)}, min-users is {statistics.min_users}"
    if metric == "auc" and len(np.unique(labels)) < 2:
        return "the test items have one class only: no AUC"
    return ""


def _first(runs: Seeded) -> KeptScores:
    return next(iter(runs.values()))


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

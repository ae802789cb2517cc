"""What a comparison found: a line per method, dataset and metric against the reference."""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from client_app.kept_scores import KeptScores
from mrff.experiments.comparison.bootstrap import Difference, holm, paired_difference, resampled
from mrff.experiments.comparison.cells import Cell, CellOutcome
from mrff.experiments.comparison.measures import TESTED, measured
from mrff.experiments.comparison.plan import ComparisonPlan, Row, Statistics

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
        method: {
            seed: kept.taken(np.searchsorted(kept.user_keys, users))
            for seed, kept in scores[method].items()
        }
        for method in usable
    }
    for method in aligned.keys() - {reference}:
        runs = [*aligned[method].values(), *aligned[reference].values()]
        notes[method] = _why_not(runs)
        if notes[method]:
            del aligned[method]
    key = [statistics.seed, zlib.crc32(dataset.encode())]
    drawn = _differences(aligned, seeds, reference, statistics, key) if len(aligned) > 1 else {}
    lines = []
    known = measured(next(iter(aligned[reference].values()))) if reference in aligned else ["auc"]
    for method, metric in itertools.product(methods, known):
        result = drawn.get((method, metric), Difference())
        note = notes[method] or _too_little(_labels(aligned[method]), metric, statistics)
        if not note and (method, metric) not in drawn:
            note = f"{method} does not measure {TESTED[metric].label}"
        if note:
            result = Difference(result.difference)
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
    labels = _labels(scores[reference])
    enough = len(labels) >= statistics.min_users
    of_runs = {m: [measured(kept) for kept in runs.values()] for m, runs in scores.items()}
    measures = {
        name: {m: [run[name] for run in runs] for m, runs in of_runs.items() if name in runs[0]}
        for name in of_runs[reference][0]
    }
    drawn = resampled(
        measures, labels.shape, resamples=statistics.resamples if enough else 1, seed=[*key, 0]
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
        for metric, of in drawn.items()
        for method in of
        if method != reference
    }


def _common_seeds(
    scores: Mapping[str, Seeded], method: str, reference: str
) -> tuple[list[int | None], str]:
    """Seeds for which both have scores, and why they cannot be compared, if so."""
    for name in (reference, method):
        if not scores.get(name):
            return [], f"no run of {name} left test scores"
    ours, theirs = scores[method].keys(), scores[reference].keys()
    common = theirs if None in ours else ours if None in theirs else ours & theirs
    if not common:
        return [], f"no seed of which both {method} and {reference} finished"
    return sorted(common, key=lambda seed: -1 if seed is None else seed), ""


def _why_not(runs: Sequence[KeptScores]) -> str:
    """Why runs of two methods cannot be compared, the last of them one of the reference."""
    if not all(kept.has_items_of(runs[-1]) for kept in runs):
        return "tested on other items than the reference"
    if any(run.logits is None for run in runs) and any(run.ranks is None for run in runs):
        return "measures nothing that the reference measures"
    return ""


def _too_little(labels: np.ndarray, metric: str, statistics: Statistics) -> str:
    """Why there is no test, if so."""
    if len(labels) < statistics.min_users:
        return f"too few users for a test: {len(labels)}, min-users is {statistics.min_users}"
    if metric == "auc" and len(np.unique(labels)) < 2:
        return "the test items have one class only: no AUC"
    return ""


def _labels(runs: Seeded) -> np.ndarray:
    return next(iter(runs.values())).labels  # the same in all of them

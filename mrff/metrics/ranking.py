"""HR, NDCG and MRR at N: where held-out items stand among the items they are ranked with.

There is one right answer per ranking. With it at rank r, HR@N is 1 for r <= N, NDCG@N is
1 / log2(1 + r) and MRR@N is 1 / r, both 0 beyond N. Equal scores count by expectation: as if the
answer stood at each of the ranks it shares with equal chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mrff.metrics.metric import Grain, Metric, Numbers, Ranks, Scored, Statistic, ratio
from mrff.sums import CohortSums, Quantity

LENGTHS = (1, 5, 10, 20, 50)
BRIEF_LENGTH = 10
_TOTALS = {"sums": "ranked", "apart": "apart", "met": "repeated"}  # answers that count, by part
_GAINS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "hr": lambda rank: np.ones_like(rank),
    "ndcg": lambda rank: 1.0 / np.log2(1.0 + rank),
    "mrr": lambda rank: 1.0 / rank,
}


def expected_gains(ranks: Ranks, kind: str) -> np.ndarray:
    """(U, k, X, lengths) a measure of every held-out item at each of `LENGTHS`.

    Args:
        kind: ``hr``, ``ndcg`` or ``mrr``.
    """
    running = np.concatenate([[0.0], np.cumsum(_GAINS[kind](np.arange(1.0, LENGTHS[-1] + 1)))])
    first, shared = ranks.better, ranks.ties + 1

    def up_to(rank: np.ndarray) -> np.ndarray:
        """The gains of ranks 1..rank, of those within each length."""
        within: np.ndarray = running[np.minimum(rank[..., None], LENGTHS)]
        return within

    gains: np.ndarray = (up_to(first + shared) - up_to(first)) / shared[..., None]
    return gains


def _compute(scored: Scored, grain: Grain) -> Numbers:
    assert scored.ranks is not None
    counts, numbers = scored.ranks.counts, dict[str, Any]()
    of = {"sums": counts, "apart": scored.ranks.apart & counts, "met": scored.ranks.met & counts}
    for kind in _GAINS:
        gains = expected_gains(scored.ranks, kind)
        numbers |= {f"{kind}_{part}": gains[answers].sum(0) for part, answers in of.items()}
    assert numbers["hr_sums"].shape[0] == grain.mixes
    totals = {name: int(of[part].sum()) for part, name in _TOTALS.items()}
    return {**numbers, **totals, "candidates": int(scored.ranks.candidates[counts].sum())}


def _quantities(grain: Grain) -> Mapping[str, Quantity]:
    names = [f"{kind}_{part}" for kind in _GAINS for part in _TOTALS]
    sums = dict.fromkeys(names, Quantity((grain.mixes, len(LENGTHS))))
    return {**sums, **dict.fromkeys(("candidates", *_TOTALS.values()), Quantity(whole=True))}


def _check(sums: CohortSums) -> str:
    most = {part: sums.number(name) for part, name in _TOTALS.items()}
    for part in ("apart", "met"):
        if not most[part] <= most["sums"] <= sums.number("targets"):
            found = f"{_TOTALS[part]} {most[part]}, ranked {most['sums']}"
            return f"{found}, targets {sums.number('targets')} must not decrease in this order"
    for kind in _GAINS:
        for part, targets in most.items():
            values = sums.numbers[f"{kind}_{part}"]
            falls = np.diff(values, axis=1, prepend=0.0) < -1e-6
            if falls.any() or (values[:, -1] > targets * (1 + 1e-6)).any():
                return f"{kind}_{part} {values.tolist()} over {targets} targets is impossible"
    return ""


# A user's own answer can be read from these sums of a node with one user, and so many of them have
# no bound that is worth its noise: private modes ask for two of them, and how many they are over.
RANKING = Statistic(_compute, _quantities, lambda grain: None, _check, reads="ranks")


def _compute_bounded(scored: Scored, grain: Grain) -> Numbers:
    sums, place = _compute(scored, grain), LENGTHS.index(BRIEF_LENGTH)
    amounts = {f"bounded_{n}": float(sums[f"{n}_sums"][0, place]) for n in _BOUNDED}
    return {**amounts, "ranked": sums["ranked"]}


def _bounded_quantities(grain: Grain) -> Mapping[str, Quantity]:
    amounts = {f"bounded_{name}": Quantity() for name in _BOUNDED}
    return {**amounts, "ranked": Quantity(whole=True)}


_BOUNDED = ("hr", "ndcg")
BOUNDED_RANKING = Statistic(
    _compute_bounded, _bounded_quantities, lambda grain: 3.0**0.5 * grain.holdout, reads="ranks"
)


def _bounded(kind: str, length: int) -> Metric | None:
    if kind not in _BOUNDED or length != BRIEF_LENGTH:
        return None

    def value(sums: CohortSums) -> float:
        ranked = sums.number("ranked")
        return float(sums.number(f"bounded_{kind}")) / ranked if ranked > 0 else math.nan

    label = f"{kind.upper()}@{length}"
    return Metric(f"{kind}{length}", label, BOUNDED_RANKING, value, "higher", brief=True)


def _metric(kind: str, place: int) -> Metric:
    def value(sums: CohortSums) -> float:
        return ratio(float(sums.numbers[f"{kind}_sums"][0, place]), sums.number("ranked"))

    length = LENGTHS[place]
    name, label = f"{kind}{length}", f"{kind.upper()}@{length}"
    brief = length == BRIEF_LENGTH and kind != "mrr"
    bounded = _bounded(kind, length)
    return Metric(name, label, RANKING, value, "higher", brief=brief, bounded=bounded)


def mix_values(sums: CohortSums, kind: str, length: int) -> np.ndarray:
    """(X,) a measure at ``length`` for every mix; 0 over nobody."""
    totals = sums.numbers[f"{kind}_sums"][:, LENGTHS.index(length)]
    values: np.ndarray = totals / max(1, sums.number("ranked"))
    return values


def _among(name: str, label: str, part: str, *, others: bool = False) -> tuple[Metric, ...]:
    """HR and NDCG at 10 over a part of the answers, or over the others where there is the part."""
    place = LENGTHS.index(BRIEF_LENGTH)

    def metric(kind: str) -> Metric:
        def value(sums: CohortSums) -> float:
            total = float(sums.numbers[f"{kind}_{part}"][0, place])
            count = sums.number(_TOTALS[part])
            if others and count:
                total = float(sums.numbers[f"{kind}_sums"][0, place]) - total
                count = sums.number("ranked") - count
            return ratio(total, count)

        told = f"{kind.upper()}@{BRIEF_LENGTH} {label}"
        return Metric(f"{kind}{BRIEF_LENGTH}_{name}", told, RANKING, value, "higher", optional=True)

    return metric("hr"), metric("ndcg")


def _share(name: str, label: str, part: str) -> Metric:
    def value(sums: CohortSums) -> float:
        return ratio(sums.number(_TOTALS[part]), sums.number("ranked"))

    return Metric(name, label, RANKING, value)


PART_METRICS = (
    *_among("apart", "at another second", "apart"),
    _share("apart_share", "share at another second than the item before", "apart"),
    *_among("new", "of answers not met before", "met", others=True),
    *_among("repeated", "of answers met before", "met"),
    _share("repeated_share", "share of answers met before", "met"),
)
RANKING_METRICS = tuple(_metric(kind, place) for place in range(len(LENGTHS)) for kind in _GAINS)
CANDIDATES = Metric(
    "candidates",
    "items ranked, on average",
    RANKING,
    lambda s: ratio(s.number("candidates"), s.number("ranked")),
    digits=1,
)

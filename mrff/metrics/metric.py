"""What a metric is: sums that a node computes, and a number that the server makes of them.

Nobody but the node sees a user's labels or scores. Several metrics may read the same sums: those
are computed and sent once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from mrff.sums import CohortSums, Quantity

Numbers = Mapping[str, Any]
Reads = Literal["logits", "ranks", "routes"]


LISTED = 10  # places of a user's list that coverage and popularity look at


@dataclass(frozen=True)
class Ranks:
    """Where the held-out items of U users stand among their candidates, k of each user.

    There are X rankings, by X mixes of scores; the first is the run's own.
    """

    better: np.ndarray  # (U, k, X) int64 candidates with a higher score
    ties: np.ndarray  # (U, k, X) int64 other candidates with the same score
    candidates: np.ndarray  # (U, k) int64, the answer among them
    apart: np.ndarray  # (U, k) bool, of another second than the user's interaction before
    met: np.ndarray  # (U, k) bool, an answer that the user had met before
    counts: np.ndarray  # (U, k) bool, an answer that is asked for
    listed: np.ndarray  # (U, k, LISTED) int32 codes of the run's own best items; 0: none, not asked

    @classmethod
    def nothing_yet(cls, users: int, holdout: int, mixes: int = 1) -> Ranks:
        """To be filled chunk by chunk."""
        shape = users, holdout
        better, ties = (np.zeros((*shape, mixes), dtype=np.int64) for _ in range(2))
        apart, met = (np.zeros(shape, dtype=bool) for _ in range(2))
        candidates, counts = np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=bool)
        listed = np.zeros((*shape, LISTED), dtype=np.int32)
        return cls(better, ties, candidates, apart, met, counts, listed)

    @classmethod
    def joined(cls, parts: Sequence[Ranks], order: np.ndarray) -> Ranks:
        """The users of all parts, in ``order``."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(p, n) for p in parts])[order] for n in names))

    def first_mix(self) -> Ranks:
        """By the run's own mix of scores alone."""
        return self.by_mix(0)

    def by_mix(self, place: int) -> Ranks:
        """By one of the mixes alone."""
        kept = slice(place, place + 1)
        return replace(self, better=self.better[..., kept], ties=self.ties[..., kept])

    def keep(self, rows: np.ndarray, ranks: Ranks) -> None:
        """Notes the ranks of the users ``rows`` (B,)."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(ranks, field.name)


@dataclass(frozen=True)
class Scored:
    """Held-out predictions of U users, k targets each, in time order."""

    logits: np.ndarray  # (U, k) float64
    labels: np.ndarray  # (U, k) 0 or 1
    routes: np.ndarray  # (U, layers) int64
    before: np.ndarray  # (U, layers) routes of the last training, -1 unknown
    ranks: Ranks | None = None  # where the next item is learned


@dataclass(frozen=True)
class Grain:
    """How finely nodes count: score bins, layers and experts, held-out targets of a user."""

    bins: int
    routes_shape: tuple[int, int]
    holdout: int
    most_logit: float = 36.0  # beyond, a float64 probability is 0 or 1: no target costs more nats
    mixes: int = 1  # of scores that held-out items are ranked by
    listed: int = 0  # items of the catalogue whose places in lists are counted; 0: none


@dataclass(frozen=True)
class Statistic:
    """Sums over a node's users.

    Args:
        compute: of the users at hand.
        quantities: the sums' names, shapes and kinds.
        check: says what is wrong with a node's sums; empty: nothing that can be seen.
        per_user_bound: the largest L2 norm of what one user adds to the sums; None: there is none
            that is worth its noise, and private modes do without the metric.
        reads: what it is computed from: only runs that learn the click have logits, only those
            that learn the next item have ranks.
    """

    compute: Callable[[Scored, Grain], Numbers]
    quantities: Callable[[Grain], Mapping[str, Quantity]]
    per_user_bound: Callable[[Grain], float | None]
    check: Callable[[CohortSums], str] = lambda sums: ""
    reads: Reads = "logits"


@dataclass(frozen=True)
class Metric:
    """One measure of an evaluation.

    Args:
        name: in history, summary, event files and ``select-best-by``.
        label: as people read it.
        statistic: what it is computed from.
        also: another that it is computed from.
        derive: the value from sums over all users; nan: undefined.
        better: which way is better; None: neither is, and no best model can be chosen by it.
        digits: decimals when it is printed.
        brief: it is told where one line has to do.
        optional: tables leave it out where it is undefined.
        bounded: the same measure by sums with a bound, for private modes.
    """

    name: str
    label: str
    statistic: Statistic
    derive: Callable[[CohortSums], float]
    better: Literal["higher", "lower"] | None = None
    digits: int = 4
    brief: bool = False
    optional: bool = False
    bounded: Metric | None = None
    also: Statistic | None = None

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """All that it is computed from."""
        return (self.statistic,) if self.also is None else (self.statistic, self.also)

    @property
    def reads(self) -> frozenset[Reads]:
        """What nodes have to know for it."""
        return frozenset(statistic.reads for statistic in self.statistics)

    def value(self, sums: CohortSums) -> float | None:
        """The measure; None where it is undefined."""
        value = self.derive(sums)
        return None if math.isnan(value) else value

    def is_better(self, value: float | None, best: float | None) -> bool:
        """Whether ``value`` improves on ``best``; anything does on nothing."""
        if best is None or value is None:
            return best is None
        return value > best if self.better == "higher" else value < best


def ratio(total: float, count: int) -> float:
    """``total / count``, nan over nothing."""
    return total / count if count else math.nan

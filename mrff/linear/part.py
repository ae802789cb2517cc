"""The fitted linear models of a run, and how much each counts beside the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.linear.base import LinearModel
from mrff.linear.ease import Ease
from mrff.linear.rules import Rules
from mrff.linear.sequences import LEFT_OUT, Sequences
from mrff.linear.slit import Slit

LINEAR: dict[str, LinearModel] = {model.name: model for model in (Ease(), Slit(), Rules())}
NETWORK, POPULARITY = "network", "popularity"
SCORERS = (NETWORK, *LINEAR, POPULARITY)

Mix = tuple[float, ...]
"""What each of `SCORERS` counts, all of them scaled to mean 0 and deviation 1 over a user's
candidates; the weights add up to 1."""


WEIGHTS = (0.95, 0.92, 0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.0)  # of the network, where not alone
BESIDE: tuple[dict[str, float], ...] = (  # shares of what the network leaves
    *({"ease": share, "slit": 1.0 - share} for share in (0.0, 0.3, 0.6, 1.0)),
    *({"ease": share, "rules": 1.0 - share} for share in (0.0, 0.3)),
    *({POPULARITY: share, "slit": 1.0 - share} for share in (0.2, 0.5, 1.0)),
    {POPULARITY: 0.2, "rules": 0.8},
)


def mixes() -> list[Mix]:
    """Those that validation chooses from; the network alone is first."""
    found = [
        mix_of(network=network, **{n: (1.0 - network) * share for n, share in beside.items()})
        for network in WEIGHTS
        for beside in BESIDE
    ]
    return [mix_of(network=1.0), *found]


def mix_of(**weights: float) -> Mix:
    """A mix by the names of its scorers; the others count nothing."""
    return tuple(round(weights.get(name, 0.0), 6) for name in SCORERS)


def told(mix: Iterable[float]) -> str:
    """``0.7 network, 0.09 ease, 0.21 slit``."""
    return ", ".join(f"{w:.2g} {n}" for n, w in zip(SCORERS, mix, strict=True) if w)


@dataclass(frozen=True)
class Mixture:
    """Linear models, and the mixes with a network's scores to rank by."""

    part: LinearPart
    mixes: NDArray[np.float64]  # (X, scorers)


@dataclass(frozen=True)
class LinearPart:
    """Matrices of every linear model over the same items, and how often those were met."""

    items: NDArray[np.int64]  # (N,) codes
    counts: NDArray[np.float32]  # (N,)
    weights: Mapping[str, NDArray[np.float32]]  # (N, N) each

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """As they travel and are kept."""
        items = self.items.astype(np.float32)  # codes below 2^24
        return {"items": items, "counts": self.counts, **self.weights}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> LinearPart:
        """The inverse of `arrays`.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        items = arrays["items"].astype(np.int64) if "items" in arrays else np.zeros(0, np.int64)
        size = len(items)
        for name, shape in {"counts": (size,), **dict.fromkeys(LINEAR, (size, size))}.items():
            if name not in arrays or arrays[name].shape != shape:
                raise ValueError(f"the linear part lacks {name!r} for its {size} items")
        return cls(items, arrays["counts"], {name: arrays[name] for name in LINEAR})

    def sequences(self, items: NDArray[Any], offsets: NDArray[np.int64]) -> Sequences:
        """Interactions (n,) as codes, of users by offsets, in the part's own columns."""
        return sequences_of(self.items, items, offsets)

    def scores(
        self, sequences: Sequences, users: NDArray[np.int64], places: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """By scorer but the network, (R, N) of users (R,) before their interactions ``places``."""
        found = {}
        for name, model in LINEAR.items():
            history = sequences.before(users, places, model.ages).astype(np.float32)
            found[name] = np.asarray(history @ self.weights[name])
        return {**found, POPULARITY: np.broadcast_to(self.counts, (len(places), len(self.items)))}

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """(N,) of items 1, 2, ... in an array over the catalogue."""
        return self.items - 1


def sequences_of(
    known: NDArray[np.int64], items: NDArray[Any], offsets: NDArray[np.int64]
) -> Sequences:
    """Interactions (n,) as columns of the ``known`` items (N,)."""
    largest = max(int(items.max(initial=0)), int(known.max(initial=0)))
    column = np.full(largest + 1, LEFT_OUT)
    column[known] = np.arange(len(known))
    return Sequences(column[items.astype(np.int64)], offsets, len(known))

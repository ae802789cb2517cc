"""The fitted linear models of a run, and how much each counts beside the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.linear.base import LinearModel
from mrff.linear.ease import Ease
from mrff.linear.sequences import LEFT_OUT, Sequences
from mrff.linear.slit import Slit

LINEAR: dict[str, LinearModel] = {model.name: model for model in (Ease(), Slit())}
NETWORK = "network"
SCORERS = (NETWORK, *LINEAR)

Mix = tuple[float, ...]
"""What each of `SCORERS` counts, all of them scaled to mean 0 and deviation 1 over a user's
candidates; the weights add up to 1."""


def mixes() -> list[Mix]:
    """Those that validation chooses from; the first is the network alone."""
    network = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0)
    shares = (0.0, 0.3, 0.6, 1.0)  # of EASE in what the network leaves
    found = [(n, (1.0 - n) * share, (1.0 - n) * (1.0 - share)) for n in network for share in shares]
    return list(dict.fromkeys(tuple(round(weight, 6) for weight in mix) for mix in found))


@dataclass(frozen=True)
class Mixture:
    """Linear models, and the mixes with a network's scores to rank by."""

    part: LinearPart
    mixes: NDArray[np.float64]  # (X, scorers)


@dataclass(frozen=True)
class LinearPart:
    """Matrices of every linear model over the same items."""

    items: NDArray[np.int64]  # (N,) codes
    weights: Mapping[str, NDArray[np.float32]]  # (N, N) each

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """As they travel and are kept."""
        return {"items": self.items.astype(np.float32), **self.weights}  # codes below 2^24

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> LinearPart:
        """The inverse of `arrays`.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        items = arrays["items"].astype(np.int64) if "items" in arrays else np.zeros(0, np.int64)
        for name in LINEAR:
            if name not in arrays or arrays[name].shape != (len(items), len(items)):
                raise ValueError(f"the linear part lacks {name!r} for its {len(items)} items")
        return cls(items, {name: arrays[name] for name in LINEAR})

    def sequences(self, items: NDArray[Any], offsets: NDArray[np.int64]) -> Sequences:
        """Interactions (n,) as codes, of users by offsets, in the part's own columns."""
        return sequences_of(self.items, items, offsets)

    def scores(
        self, sequences: Sequences, users: NDArray[np.int64], places: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """By model, (R, N) of users (R,) before their interactions ``places`` (R,)."""
        found = {}
        for name, model in LINEAR.items():
            history = sequences.before(users, places, model.ages).astype(np.float32)
            found[name] = np.asarray(history @ self.weights[name])
        return found

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

"""Rivals that see everybody's data in one place. NOT federated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.metrics.metric import Ranks

Measures = Mapping[str, float]
"""Of an evaluation, by the names of metrics."""
Note = Callable[[int, Measures], None]
"""Is told of every validation: the step (a pass, a number of trees, a point of a grid)."""


def nobody(step: int, measures: Measures) -> None:
    """A `Note` where nobody listens."""


@dataclass(frozen=True)
class Predicted:
    """The test part of U users with k targets each, by the step that validation chose."""

    users: np.ndarray  # (U,) rows in the dataset
    labels: np.ndarray  # (U, k) 0 or 1, in time order
    logits: np.ndarray  # (U, k)
    best: int = 0  # pass, or number of trees; 0: nothing to choose
    ranks: Ranks | None = None  # of the same items, where both are learned


@dataclass(frozen=True)
class Ranked:
    """Where the test items of U users stand, by the step that validation chose."""

    users: np.ndarray  # (U,) rows in the dataset
    ranks: Ranks  # of their k test items, in time order
    best: int  # pass, or point of the grid, from 1
    chosen: str = ""  # that point in words
    tried: int = 1  # points of the grid


Outcome = Predicted | Ranked
Program = Callable[[Dataset, RunConfig, Note], Outcome]
"""Runs a method on a dataset, split as the configuration says."""

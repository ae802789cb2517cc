"""Rivals that see everybody's data in one place. NOT federated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Note = Callable[[int, float, float], None]
"""Is told of every validation: the step (a pass, a number of trees), AUC and log loss."""


def nobody(step: int, auc: float, log_loss: float) -> None:
    """A `Note` where nobody listens."""


@dataclass(frozen=True)
class Predicted:
    """The test part of U users with k targets each, by the step that validation chose."""

    users: np.ndarray  # (U,) rows in the dataset
    labels: np.ndarray  # (U, k) 0 or 1, in time order
    logits: np.ndarray  # (U, k)
    best: int = 0  # pass, or number of trees; 0: nothing to choose

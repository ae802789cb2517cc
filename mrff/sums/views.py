"""What a privacy mechanism may know of a node in a round, and of a run on the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrff.config import RunConfig
from mrff.sums.sampling import sampled_users


@dataclass(frozen=True)
class NodeView:
    """A node in one round."""

    config: RunConfig
    user_keys: np.ndarray  # (U,) uint64, users long enough for the split
    population: tuple[str, ...]  # what ledgers call the people whose budgets they count
    ledger_folder: Path  # outlives runs
    limits: Mapping[str, Any]  # the node's own: epsilon-budget, delta
    training: str  # the run's lineage
    round_number: int
    terms: Mapping[str, float]  # what the server's half of the mechanism says
    honest_nodes: int = 1  # at least so many add up before anybody sees a sum

    def drawn(self) -> np.ndarray:
        """(U,) bool, the users whose coin of this round says so; anybody may toss it again."""
        seed, rate = self.config.training.seed, self.config.training.sampling_rate
        return sampled_users(seed, self.round_number, self.user_keys, rate)


@dataclass(frozen=True)
class ServerView:
    """A run, as the server sees it."""

    config: RunConfig
    units: int  # users, or at most how many records, that the dataset has
    population: tuple[str, ...]  # what ledgers call the people whose budgets they count
    ledger_folder: Path
    training: str  # the run's lineage

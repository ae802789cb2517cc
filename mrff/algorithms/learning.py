"""The contract of local training: what a learner is given for a round and what it gives back.

A learner trains each user separately from the same start with that user's private parameters, and
hands the outcome to the round's mechanism chunk by chunk: it returns sums, never one user's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mrff.data.dataset import Dataset
from mrff.linear import Mixture
from mrff.metrics.metric import Scored
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import CohortSums, Outcome, Tensors
from mrff.wire.requests import Part


@dataclass(frozen=True)
class SharedModel:
    """Where every user of a round starts from."""

    round_number: int
    public: Mapping[str, Tensor]
    group: Mapping[str, Tensor]  # one array per weight of every expert
    loads: Tensor | None = None  # (layers, K), share of users per expert in the previous round
    mixture: Mixture | None = None  # linear models to rank by beside the network


@dataclass(frozen=True)
class Cohort:
    """Users and what is theirs."""

    dataset: Dataset
    users: np.ndarray  # (U,) row numbers in the dataset
    private: Mapping[str, Tensor]  # (U, ...) each
    routes: np.ndarray  # (U, layers) int64, of their last training, -1 unknown

    def __len__(self) -> int:
        return len(self.users)

    @property
    def keys(self) -> np.ndarray:
        """(U,) uint64, stable keys of the users."""
        keys: np.ndarray = self.dataset.user_keys[self.users]
        return keys

    def part(self, rows: np.ndarray) -> Cohort:
        """The users ``rows`` (B,) of the cohort."""
        private = rows_of(self.private, rows)
        return Cohort(self.dataset, self.users[rows], private, self.routes[rows])


@dataclass(frozen=True)
class Trained:
    """The outcome of a round for a cohort: sums for the mechanism, and what stays."""

    sums: CohortSums
    private: Tensors  # (U, ...) each, new; stays on the node
    routes: np.ndarray  # (U, layers) int64, of the first local step
    kept: np.ndarray  # (U,) bool; False: not finite, left out of every sum, private unchanged

    @classmethod
    def nothing_yet(cls, cohort: Cohort, num_layers: int) -> Trained:
        """To be filled chunk by chunk."""
        routes = np.full((len(cohort), num_layers), -1, dtype=np.int64)
        private = {name: rows.clone() for name, rows in cohort.private.items()}
        return cls(CohortSums(), private, routes, np.zeros(len(cohort), dtype=bool))

    def keep(self, rows: np.ndarray, outcome: Outcome) -> None:
        """Notes what stays of the cohort's users ``rows``, as far as they are finite."""
        finite = outcome.finite.cpu().numpy()
        at = torch.from_numpy(rows[finite])
        for name, values in rows_of(outcome.private, finite).items():
            self.private[name].index_copy_(0, at, values.to(self.private[name]))
        self.routes[rows[finite]] = outcome.routes.cpu().numpy()[finite]
        self.kept[rows] = finite


class Learner(Protocol):
    """One method for one cohort; leaves the network's parameters undefined."""

    def train(self, model: SharedModel, cohort: Cohort, mechanism: ClientHalf) -> Trained:
        """Trains every user for one round."""
        ...

    def score(self, model: SharedModel, cohort: Cohort, part: Part) -> Scored:
        """Scores every user's held-out interactions."""
        ...

    def losses(self, model: SharedModel, cohort: Cohort) -> np.ndarray:
        """(U,) each user's mean loss on their training records, without dropout."""
        ...


def rows_of(tensors: Mapping[str, Tensor], rows: np.ndarray) -> Tensors:
    """The rows (B,), or those where it is true (U,), of tensors (U, ...).

    Without a copy where all are true, as nearly always.
    """
    if rows.dtype == bool and rows.all():
        return dict(tensors)
    at = torch.from_numpy(rows)
    return {name: values[at] for name, values in tensors.items()}

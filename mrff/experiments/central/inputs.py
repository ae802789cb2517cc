"""What the head of a network reads of every row, for programs that see everybody's rows.

The columns are computed by the network itself (`MRFFNetwork.rates_of`), from the windows that a run
trains on and is tested by. The user's features and bucketed ones of items come along as codes.

A training row's statistics are sums over users of other folds. A run takes each row out of its
item's rate again; trees would read the label back from that: among the rows of an item, which its
count gives away, the rate of the others is lower exactly where the label is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners.base import as_batch, training_batch
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset
from mrff.data.floors import Floats
from mrff.data.windows import eligible_users, evaluation_records, training_users
from mrff.experiments.central.statistics import fill_statistics
from mrff.wire.requests import PARTS, Part
from mrff_model.batch import Batch
from mrff_model.building import build_network

FOLDS = 5  # of users
USERS_AT_ONCE = 64


@dataclass(frozen=True)
class InputRows:
    """Inputs and labels of n rows, in the order of users and of time."""

    users: NDArray[np.int64]  # (n,) rows in the dataset
    numbers: Floats  # (n, R)
    codes: NDArray[np.int64]  # (n, C), 0 unknown
    labels: NDArray[np.int8]  # (n,)

    @property
    def matrix(self) -> Floats:
        """(n, R + C), NaN where a code is unknown."""
        known = np.where(self.codes > 0, self.codes.astype(np.float64), np.nan)
        return np.hstack([self.numbers, known])

    def at(self, rows: NDArray[Any]) -> InputRows:
        """Some of them."""
        return InputRows(self.users[rows], self.numbers[rows], self.codes[rows], self.labels[rows])

    @classmethod
    def joined(cls, parts: list[InputRows]) -> InputRows:
        """All of several, whose users are different ones."""
        fields = zip(*((p.users, p.numbers, p.codes, p.labels) for p in parts), strict=True)
        users, numbers, codes, labels = (np.concatenate(field) for field in fields)
        return cls(users, numbers, codes, labels).at(np.argsort(users, kind="stable"))


class Inputs:
    """The inputs of one dataset by the settings of a run.

    Raises:
        ConfigError: clicks are not learned.
    """

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        if config.objective == "next":
            raise ConfigError(
                "training.objective=next has no inputs of clicks for a model to be fitted to; "
                "choose training.objective=click"
            )
        self.dataset, self.config = dataset, config
        self._network = build_network(
            config.network_arguments(), dataset.schema, dataset.item_features,
            seed=config.training.seed,
        )  # fmt: skip
        schema = dataset.schema
        self._of_users = [f.name for f in schema.user_features if f.kind != "multi"]
        self._of_items = [f.name for f in schema.item_features if f.kind == "bucket"]

    def training(self, folds: int = FOLDS) -> InputRows:
        """Rows that train; the statistics of each are those of users of other folds."""
        everybody, parts = training_users(self.dataset), []
        fold_of = np.arange(self.dataset.num_users) % folds
        for fold in range(folds):
            others = replace(self.dataset, trains=fold_of != fold)
            if self._network.item_statistics is not None:
                fill_statistics(self._network, others, self.config)
            users = everybody[fold_of[everybody] == fold]
            for some in _few(users):
                parts.append(self._rows(training_batch(others, some, self.config), some))
        return InputRows.joined(parts)

    def held_out(self) -> tuple[InputRows, InputRows]:
        """Validation and test by everybody's statistics, k rows of each of `eligible_users`."""
        fill_statistics(self._network, self.dataset, self.config)
        users = eligible_users(self.dataset, holdout=self.config.data.holdout)
        valid, test = ([self._held_out(some, part) for some in _few(users)] for part in PARTS)
        return InputRows.joined(valid), InputRows.joined(test)

    def _held_out(self, users: NDArray[np.int64], part: Part) -> InputRows:
        data = self.config.data
        records = evaluation_records(
            self.dataset, users, length=data.window_length, holdout=data.holdout, part=part
        )
        return self._rows(as_batch(records, self.dataset, users, self.config), users)

    def _rows(self, batch: Batch, users: NDArray[np.int64]) -> InputRows:
        """The rows of users that count."""
        counts = batch.mask
        rates = [some.expand(*counts.shape, -1)[counts] for some in self._network.rates_of(batch)]
        owner, items = counts.nonzero()[:, 0], batch.targets[counts]
        of_items = self._network.item_features.codes(items, self._of_items)
        of_users = [batch.user_codes[name][owner] for name in self._of_users]
        codes = torch.stack([items, *of_users, *of_items.values()], dim=1)[:, 1:]
        numbers = torch.cat([items.new_zeros(len(items), 0).float(), *rates], dim=1)
        labels = batch.labels[counts].numpy().astype(np.int8)
        return InputRows(users[owner.numpy()], numbers.double().numpy(), codes.numpy(), labels)


def _few(users: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Some at a time."""
    return (users[n : n + USERS_AT_ONCE] for n in range(0, len(users), USERS_AT_ONCE))

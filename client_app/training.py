"""The contract of local training: what a trainer is given for a round and what it gives back.

Two trainers keep it: `client_app.serial_training` (a plain loop, the oracle) and a batched one. A
trainer trains each user separately from the same start with that user's private parameters, and
returns sums, never one user's model (DESIGN 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from client_app.randomness import user_keys
from mrff.config import DataSettings, TrainingSettings
from mrff.data.dataset import Dataset
from mrff.data.windows import Records, train_records
from mrff_model.network import Batch, MRFFNetwork
from mrff_model.scopes import expert_of, split_bank

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """Where every user of a round starts from."""

    round_number: int
    public: Mapping[str, Tensor]
    group: Mapping[str, Tensor]  # one array per weight of every expert
    loads: Tensor | None  # (layers, K), share of users per expert in the previous round


@dataclass(frozen=True)
class Cohort:
    """Users to train and what is theirs."""

    dataset: Dataset
    users: np.ndarray  # (U,) row numbers in the dataset
    private: Mapping[str, Tensor]  # (U, ...) each


@dataclass(frozen=True)
class Trained:
    """The outcome of a round for a cohort: sums to upload, and what stays."""

    public: Tensors  # sum over users of weight * (new - old), float32
    group: Tensors  # the same, for every expert that somebody chose
    weight: float  # sum of the users' weights
    expert_weight: np.ndarray  # (layers, K) float64, sum of weights of those who chose it
    expert_users: np.ndarray  # (layers, K) int64, users by their route in the first local step
    loss_sum: float  # summed BCE over the targets, first local step
    num_targets: int
    private: Tensors  # (U, ...) each, new; stays on the node
    routes: np.ndarray  # (U, layers) int64, of the first local step
    kept: np.ndarray  # (U,) bool; False: not finite, left out of every sum, private unchanged


class Trainer(Protocol):
    """Trains every user of a cohort for one round; leaves the network's parameters undefined."""

    def __call__(
        self,
        network: MRFFNetwork,
        start: Start,
        cohort: Cohort,
        *,
        data: DataSettings,
        training: TrainingSettings,
    ) -> Trained: ...


def training_batch(dataset: Dataset, users: np.ndarray, data: DataSettings) -> Batch:
    """The training records of ``users`` (U,), no wider or longer than these users need."""
    records = train_records(
        dataset,
        users,
        length=data.window_length,
        max_windows=data.max_windows_per_user,
        holdout=data.holdout,
    )
    return as_batch(records, dataset, users)


def as_batch(records: Records, dataset: Dataset, users: np.ndarray) -> Batch:
    """Records as tensors, with the users' features."""
    codes = {name: torch.from_numpy(c[users]).long() for name, c in dataset.user_features.items()}
    return Batch(
        items=torch.from_numpy(records.items),
        feedback=torch.from_numpy(records.feedback),
        targets=torch.from_numpy(records.targets),
        labels=torch.from_numpy(records.labels),
        mask=torch.from_numpy(records.mask),
        real=torch.from_numpy(records.real),
        user_codes=codes,
    )


def dropout_keys(seed: int, round_number: int, user_key: np.ndarray, step: int) -> Tensor:
    """(U,) int64, the dropout keys of users in a local step."""
    keys = user_keys(seed, round_number, user_key, f"dropout step {step}")
    return torch.from_numpy(keys.view(np.int64))


def user_weights(num_targets: np.ndarray, weighting: str) -> np.ndarray:
    """(U,) float64: 1 each, or the number of targets."""
    weights = num_targets if weighting == "targets" else np.ones_like(num_targets)
    return weights.astype(np.float64)


def chosen_experts(bank: Mapping[str, Tensor], expert_weight: np.ndarray) -> Tensors:
    """The experts of ``bank`` (K, ...) that somebody chose, one array per weight of each."""
    experts = split_bank(bank)
    return {name: array for name, array in experts.items() if expert_weight[expert_of(name)] > 0}


TRAINERS: dict[str, str] = {
    "cohort": "client_app.cohort_training:train_cohort",
    "serial": "client_app.serial_training:train_serially",
}


def trainer_named(name: str, *, clusters: int = 0) -> Trainer:
    """The trainer of that name, imported when it is asked for.

    Args:
        clusters: copies of the whole network that users choose from; 0: there is one network.
    """
    module, function = TRAINERS[name].split(":")
    trainer: Trainer = getattr(import_module(module), function)
    if clusters:
        from client_app.clusters import ClusterTrainer

        return ClusterTrainer(trainer, clusters)
    return trainer

"""What all learners do alike: read records, prepare users, name what is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from client_app.devices import moved
from client_app.learners.counted import counted_records
from mrff.algorithms.learning import Cohort, SharedModel
from mrff.config import RunConfig, TrainingSettings
from mrff.data.dataset import Dataset
from mrff.data.windows import Records, items_before, train_records
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.sums import Tensors
from mrff.sums.sampling import drawn_items, user_keys
from mrff_model.batch import Batch
from mrff_model.building import tensors_of
from mrff_model.losses import LossWeights
from mrff_model.scopes import is_fixed
from mrff_model.shared import Network


@dataclass(frozen=True)
class Work:
    """B users of a cohort, ready to be computed on the network's device."""

    batch: Batch
    private: Tensors  # (B, ...) each
    weights: Tensor  # (B,) above 0, of the users in a sum
    dropout_keys: list[Tensor]  # (B,) int64 for each local step
    loss: LossWeights
    loads: Tensor | None  # see `mrff_model.losses.user_losses`
    training: TrainingSettings
    targets: np.ndarray  # (B,) how many each user has
    rates: list[Tensor] | None = None  # `MRFFNetwork.rates_of` the batch, where they are known

    @property
    def user_weights(self) -> np.ndarray:
        """(B,) float64."""
        return user_weights(self.targets, self.training.user_weighting)


def work_on(model: SharedModel, cohort: Cohort, config: RunConfig, like: Tensor) -> Work:
    """Reads the cohort's training records and moves everything to the device of ``like``."""
    training = config.training
    batch = training_batch(cohort.dataset, cohort.users, config)
    batch = with_drawn_items(batch, cohort, config, model.round_number)
    targets = batch.mask.sum((1, 2)).numpy()
    keys = (
        dropout_keys(training.seed, model.round_number, cohort.keys, step)
        for step in range(training.local_steps)
    )
    return Work(
        batch=batch.map(lambda field: moved(field, like.device)),
        private={name: values.to(like) for name, values in cohort.private.items()},
        weights=torch.from_numpy(user_weights(targets, training.user_weighting)).to(like),
        dropout_keys=[moved(key, like.device) for key in keys],
        loss=loss_weights(config),
        loads=None if model.loads is None else model.loads.to(like),
        training=training,
        targets=targets,
    )


def trained_parameters(network: Network, mechanism: ClientHalf) -> Tensors:
    """The network's own shared parameters that the mechanism trains, public ones first."""
    parameters = dict(network.named_parameters())
    names = [*tensors_of(network, "public"), *tensors_of(network, "group")]
    names = [name for name in names if not is_fixed(name)]
    return {name: parameters[name] for name in mechanism.trained(names)}


def local_settings(config: RunConfig, mechanism: ClientHalf) -> RunConfig:
    """The settings of local training; users' own parameters stay where the mechanism says so."""
    if mechanism.moves_private:
        return config
    still = replace(
        config.training,
        private_learning_rate=0.0,
        private_weight_decay=0.0,
        user_factors_learning_rate=0.0,
    )
    return replace(config, training=still)


def with_drawn_items(batch: Batch, cohort: Cohort, config: RunConfig, round_number: int) -> Batch:
    """The batch with the items that each user's targets are compared with in this round."""
    training, items = config.training, cohort.dataset.schema.num_items
    if config.objective == "click" or items <= training.full_softmax_items:
        return batch
    keys = user_keys(training.seed, round_number, cohort.keys, "drawn items")
    drawn = torch.from_numpy(drawn_items(keys, training.drawn_items, items))
    return batch._replace(drawn=(drawn,))


def loss_weights(config: RunConfig) -> LossWeights:
    """What the parts of the loss count in a run."""
    training, objective = config.training, config.objective
    return LossWeights(
        balance=training.balance_loss_weight,
        click=float(objective != "next"),
        next={"click": 0.0, "next": 1.0, "both": training.next_weight}[objective],
        liked_only=config.data.targets == "liked",
        gates_follow=config.gate_mode == "evidence",
    )


def training_batch(dataset: Dataset, users: np.ndarray, config: RunConfig) -> Batch:
    """The training records of ``users`` (U,), no wider or longer than these users need."""
    data = config.data
    records = train_records(
        dataset,
        users,
        length=data.window_length,
        max_windows=data.max_windows_per_user or 0,
        holdout=data.holdout,
    )
    return as_batch(records, dataset, users, config)


def as_batch(records: Records, dataset: Dataset, users: np.ndarray, config: RunConfig) -> Batch:
    """Records as tensors, with the users' features, and what gates and inputs read beside."""
    earlier: tuple[Tensor, ...] = ()
    if config.gate_input == "earlier":
        before = items_before(dataset, users, records.first, config.data.window_length)
        earlier = (torch.from_numpy(before),)
    codes = {name: torch.from_numpy(c[users]).long() for name, c in dataset.user_features.items()}
    batch = Batch(
        items=torch.from_numpy(records.items),
        feedback=torch.from_numpy(records.feedback),
        targets=torch.from_numpy(records.targets),
        labels=torch.from_numpy(records.labels),
        mask=torch.from_numpy(records.mask),
        real=torch.from_numpy(records.real),
        user_codes=codes,
        earlier=earlier,
        times=() if records.times is None else (torch.from_numpy(records.times),),
    )
    return batch.with_fields(counted_records(records, dataset, users, config))


def dropout_keys(seed: int, round_number: int, user_key: np.ndarray, step: int) -> Tensor:
    """(U,) int64, the dropout keys of users in a local step."""
    keys = user_keys(seed, round_number, user_key, f"dropout step {step}")
    return torch.from_numpy(keys.view(np.int64))


def user_weights(num_targets: np.ndarray, weighting: str) -> np.ndarray:
    """(U,) float64: 1 each, or the number of targets, but at least 1."""
    weights = num_targets.clip(min=1) if weighting == "targets" else np.ones_like(num_targets)
    return weights.astype(np.float64)

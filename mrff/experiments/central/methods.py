"""Runs the methods that see everybody's data at once: pooled training and the floors."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from client_app.devices import device_for
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import method_named
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.floors import Predictions, floor_of, predict_by_rates
from mrff.experiments.central import Note
from mrff.experiments.central.boosted_trees import predict_by_trees
from mrff.experiments.central.pooled import train_pooled
from mrff_model.building import build_network
from server_app.model import open_catalogue

RATES = {
    "user-rate": "user",
    "user-item-rate": "user_item",
    "user-feature-rate": "user_features",
}
TREES = {"boosted-trees": False, "boosted-trees-history": True}  # whether they see the history


@dataclass(frozen=True)
class CentralResult:
    """The test part's predictions of U users with k targets each, and what they come to."""

    method: str
    user_keys: np.ndarray  # (U,) uint64
    labels: np.ndarray  # (U, k) 0 or 1, in time order
    logits: np.ndarray  # (U, k)
    auc: float
    log_loss: float
    best_round: int  # pass, or number of trees, that validation chose; 0: nothing to choose
    seconds: float


def run_central(
    name: str, config: RunConfig, note: Note = lambda step, auc, log_loss: None
) -> CentralResult:
    """Runs a method of kind ``pooled`` or ``floor`` on the data and split of ``config``.

    Args:
        config: with the method's overrides in it already.
        note: told of every validation.

    Raises:
        ConfigError: an unknown or a federated method, or one that this dataset cannot feed.
        DataError: data that cannot be read, or is too little for the split.
    """
    method = method_named(name)
    if method.is_federated:
        raise ConfigError(f"method {name} is federated: it runs through Flower, not in one place")
    open_catalogue(config)  # prepares the dataset on its first use
    dataset = load_dataset(config.dataset_path)
    began = time.perf_counter()
    if name in RATES:
        found, best = _by_rates(name, dataset, config), 0
    elif name in TREES:
        found, best = _by_trees(name, dataset, config, note)
    else:
        found, best = _pooled(name, dataset, config, note)
    (logits,) = found.logits.values()
    measured = floor_of(found.labels, logits)
    return CentralResult(
        method=name,
        user_keys=dataset.user_keys[found.users],
        labels=found.labels,
        logits=logits,
        auc=measured.auc,
        log_loss=measured.log_loss,
        best_round=best,
        seconds=time.perf_counter() - began,
    )


def _by_rates(name: str, dataset: Dataset, config: RunConfig) -> Predictions:
    found = predict_by_rates(dataset, holdout=config.data.holdout, part="test")
    floor = RATES[name]
    if floor not in found.logits:
        raise ConfigError(
            f"method {name} needs item features beside the id; dataset {config.data.dataset} "
            "has none"
        )
    return Predictions(found.users, found.labels, {floor: found.logits[floor]})


def _by_trees(
    name: str, dataset: Dataset, config: RunConfig, note: Note
) -> tuple[Predictions, int]:
    found = predict_by_trees(
        dataset,
        holdout=config.data.holdout,
        history=TREES[name],
        seed=config.training.seed % 2**32,
        note=note,
    )
    return found.predictions, found.trees


def _pooled(name: str, dataset: Dataset, config: RunConfig, note: Note) -> tuple[Predictions, int]:
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    ).to(device_for(config.training))
    result = train_pooled(network, dataset, config, note)
    labels = result.scores.labels.astype(np.int8)
    return Predictions(result.users, labels, {name: result.scores.logits}), result.best_pass

"""Runs the methods that see everybody's data at once: pooled training and the floors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from client_app.devices import device_for
from client_app.kept_scores import KeptScores
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import method_named
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.floors import Floor, floor_of, predict_by_rates
from mrff.experiments.central import Note, Predicted, nobody
from mrff.experiments.central.boosted_trees import predict_by_trees
from mrff.experiments.central.pooled import train_pooled
from mrff_model.building import build_network
from server_app.model import open_catalogue


@dataclass(frozen=True)
class CentralResult:
    """What a method predicts, and what that comes to."""

    scores: KeptScores
    measured: Floor
    best_round: int  # see `Predicted.best`
    seconds: float


def run_central(name: str, config: RunConfig, note: Note = nobody) -> CentralResult:
    """Runs a method of kind ``pooled`` or ``floor`` on the data and split of ``config``.

    Args:
        config: with the method's overrides in it already.
        note: told of every validation.

    Raises:
        ConfigError: an unknown or a federated method, or one that this dataset cannot feed.
        DataError: data that cannot be read, or is too little for the split.
    """
    if method_named(name).is_federated:
        raise ConfigError(f"method {name} is federated: it runs through Flower, not in one place")
    open_catalogue(config)  # prepares the dataset on its first use
    dataset = load_dataset(config.dataset_path)
    config = config.for_data(dataset.schema.kind)
    began = time.perf_counter()
    found = CENTRAL[name](dataset, config, note)
    return CentralResult(
        scores=KeptScores(dataset.user_keys[found.users], found.logits, found.labels),
        measured=floor_of(found.labels, found.logits),
        best_round=found.best,
        seconds=time.perf_counter() - began,
    )


def _by_rates(dataset: Dataset, config: RunConfig, note: Note, *, floor: str) -> Predicted:
    found = predict_by_rates(dataset, holdout=config.data.holdout, part="test")
    if floor not in found.logits:
        raise ConfigError(
            "method user-feature-rate needs item features beside the id; dataset "
            f"{config.data.dataset} has none"
        )
    return Predicted(found.users, found.labels, found.logits[floor])


def _pooled(dataset: Dataset, config: RunConfig, note: Note) -> Predicted:
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    return train_pooled(network.to(device_for(config.training)), dataset, config, note)


CENTRAL: Mapping[str, Callable[[Dataset, RunConfig, Note], Predicted]] = {
    "pooled": _pooled,
    "user-rate": partial(_by_rates, floor="user"),
    "user-item-rate": partial(_by_rates, floor="user_item"),
    "user-feature-rate": partial(_by_rates, floor="user_features"),
    "boosted-trees": partial(predict_by_trees, history=False),
    "boosted-trees-history": partial(predict_by_trees, history=True),
}

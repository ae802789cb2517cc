"""Runs the methods that see everybody's data at once: pooled training and the floors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from client_app.kept_scores import KeptScores
from mrff.config import ConfigError, RunConfig
from mrff.config.methods import method_named
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.floors import floor_of, predict_by_rates
from mrff.data.targets import ending_with_targets
from mrff.experiments.central import (
    Measures,
    Note,
    Outcome,
    Predicted,
    Program,
    Ranked,
    nobody,
)
from mrff.metrics import measures_of_ranks
from server_app.data_folder import open_catalogue


@dataclass(frozen=True)
class CentralResult:
    """What a method predicts, and what that comes to."""

    scores: KeptScores  # logits where it predicts clicks, ranks where it ranks
    measured: Measures  # of the test, by the names of metrics
    best_round: int  # see `Predicted.best` and `Ranked.best`
    seconds: float
    chosen: str = ""  # what validation chose, in words
    tried: int = 1  # out of so many


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
    dataset = load_dataset(config.dataset_path, config.times_read)
    config = config.for_data(dataset.schema.kind)
    if config.holds_out_targets:
        dataset = ending_with_targets(dataset, holdout=config.data.holdout)
    began = time.perf_counter()
    found = program_of(name)(dataset, config, note)
    seconds = time.perf_counter() - began
    scores, measured = _kept(found, dataset, config.data.holdout)
    if isinstance(found, Ranked):
        return CentralResult(scores, measured, found.best, seconds, found.chosen, found.tried)
    return CentralResult(scores, measured, found.best, seconds)


def _kept(found: Outcome, dataset: Dataset, holdout: int) -> tuple[KeptScores, Measures]:
    """What a comparison keeps of the test, and its measures."""
    keys = dataset.user_keys[found.users]
    measured = {} if found.ranks is None else dict(measures_of_ranks(found.ranks))
    if isinstance(found, Ranked):
        held_out = dataset.offsets[found.users + 1, None] - np.arange(holdout, 0, -1)
        return KeptScores(keys, None, dataset.labels[held_out], found.ranks), measured
    exact = floor_of(found.labels, found.logits)
    measured |= {"auc": exact.auc, "log_loss": exact.log_loss}
    return KeptScores(keys, found.logits, found.labels, found.ranks), measured


def _by_rates(dataset: Dataset, config: RunConfig, note: Note, *, floor: str) -> Predicted:
    found = predict_by_rates(dataset, holdout=config.data.holdout, part="test")
    if floor not in found.logits:
        raise ConfigError(
            "method user-feature-rate needs item features beside the id; dataset "
            f"{config.data.dataset} has none"
        )
    return Predicted(found.users, found.labels, found.logits[floor])


FLOORS: Mapping[str, Program] = {
    "user-rate": partial(_by_rates, floor="user"),
    "user-item-rate": partial(_by_rates, floor="user_item"),
    "user-feature-rate": partial(_by_rates, floor="user_features"),
}


def program_of(name: str) -> Program:
    """What runs the method of that name."""
    if name in FLOORS:
        return FLOORS[name]
    from mrff.experiments.central.rivals import RIVALS  # brings PyTorch, which floors do without

    return RIVALS[name]

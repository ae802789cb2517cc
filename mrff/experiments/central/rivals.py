"""What there is besides the floors: pooled networks, trees, models of inputs, and what ranks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from client_app.devices import device_for
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.experiments.central import Note, Outcome, Program
from mrff.experiments.central.boosted_trees import predict_by_trees
from mrff.experiments.central.closed_forms import ease, slit
from mrff.experiments.central.factorisation import bpr, ials
from mrff.experiments.central.input_models import (
    by_catboost,
    by_lightgbm,
    by_logistic,
    predict_by_inputs,
)
from mrff.experiments.central.neighbours import item_knn, popularity, rules
from mrff.experiments.central.pooled import train_pooled
from mrff.experiments.central.ranking import rank_by
from mrff_model.building import build_network


def _pooled(dataset: Dataset, config: RunConfig, note: Note) -> Outcome:
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    return train_pooled(network.to(device_for(config.training)), dataset, config, note)


RIVALS: Mapping[str, Program] = {
    "pooled": _pooled,
    "din-pooled": _pooled,
    "sasrec-pooled": _pooled,
    "hstu-pooled": _pooled,
    "popularity": partial(rank_by, popularity),
    "item-knn": partial(rank_by, item_knn),
    "rules": partial(rank_by, rules),
    "ease": partial(rank_by, ease, dense=True),
    "slit": partial(rank_by, slit, dense=True),
    "ials": partial(rank_by, ials),
    "bpr": partial(rank_by, bpr),
    "boosted-trees": partial(predict_by_trees, history=False),
    "boosted-trees-history": partial(predict_by_trees, history=True),
    "logistic-inputs": partial(predict_by_inputs, by_logistic),
    "lightgbm-inputs": partial(predict_by_inputs, by_lightgbm),
    "catboost-inputs": partial(predict_by_inputs, by_catboost),
}

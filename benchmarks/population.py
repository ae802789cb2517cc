"""What the benchmarks train: a prepared dataset's users with a new network and new private rows."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from synthetic import write_population

from client_app.learners import Cohort, SharedModel
from mrff.config import RunConfig
from mrff.config.declaration import Value
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.windows import eligible_users
from mrff.ops.simulation import read_settings
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.privacy.mechanisms.none import NoMechanism
from mrff.sums import NodeView
from mrff_model.building import build_network, initial_shared, tensors_of
from mrff_model.network import MRFFNetwork

MADE_UP_USERS = 1_000
POPULATION = ("dataset", "config", "set", "users", "made_up_users")


@dataclass(frozen=True)
class Population:
    """Everything a learner is given."""

    config: RunConfig
    network: MRFFNetwork
    model: SharedModel
    cohort: Cohort


@contextmanager
def prepared_folder(given: Path | None, *, made_up: int = MADE_UP_USERS) -> Iterator[Path]:
    """The given prepared folder, or that of a made-up population that goes away again."""
    if given is not None:
        yield given.expanduser().absolute()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "synthetic"
        write_population(folder, made_up)
        print(f"no --dataset: {made_up} made-up users")
        yield folder


def chosen_population(options: argparse.Namespace) -> Population:
    """What the options named in `POPULATION` say."""
    settings = read_settings(options.config, options.set)
    with prepared_folder(options.dataset, made_up=options.made_up_users) as folder:
        return open_population(folder, users=options.users, settings=settings)


def open_population(folder: Path, *, users: int, settings: Mapping[str, Value]) -> Population:
    """The first ``users`` eligible users of a prepared folder; 0: all of them."""
    named = {"data.dataset": folder.name, "data.data-dir": str(folder)}
    config = RunConfig.from_flat({**settings, **named})
    dataset = load_dataset(folder, config.times_read)
    network = network_of(dataset, config)
    rows = eligible_users(dataset, holdout=config.data.holdout)
    rows = rows[:users] if users else rows
    private = {
        name: value.expand(len(rows), *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    routes = np.full((len(rows), config.routes_shape[0]), -1)
    cohort = Cohort(dataset, rows, private, routes)
    return Population(config, network, model_of(network), cohort)


def model_of(network: MRFFNetwork) -> SharedModel:
    """The shared model of round 1: the network as it starts."""
    public, group = (
        {name: torch.from_numpy(array) for name, array in part.items()}
        for part in initial_shared(network)
    )
    return SharedModel(1, public, group)


def network_of(dataset: Dataset, config: RunConfig) -> MRFFNetwork:
    """The network of ``config`` for ``dataset``."""
    return build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )


def plain_client(config: RunConfig, keys: np.ndarray) -> ClientHalf:
    """The client half that adds plain updates up, for users with ``keys`` (U,)."""
    nowhere = Path("unused")  # only budgets are kept in a ledger
    return NoMechanism().client(
        NodeView(
            config=config, user_keys=keys, population="", ledger_folder=nowhere, limits={},
            training="", round_number=1, terms={},
        )
    )  # fmt: skip

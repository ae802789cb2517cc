"""What the benchmarks train: a prepared dataset's users with a new network and new private rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from synthetic import write_population

from client_app.learners import Cohort, SharedModel
from mrff.config import RunConfig, full_names
from mrff.config.declaration import Value
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.windows import eligible_users
from mrff.privacy.mechanisms.base import ClientHalf
from mrff.privacy.mechanisms.none import NoMechanism
from mrff.sums import NodeView
from mrff_model.building import build_network, initial_shared, tensors_of
from mrff_model.network import MRFFNetwork

MADE_UP_USERS = 1_000


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


def open_population(folder: Path, *, users: int, settings: Mapping[str, Value]) -> Population:
    """The first ``users`` eligible users of a prepared folder; 0: all of them."""
    config = RunConfig.from_flat(
        {"data.dataset": folder.name, "data.data-dir": str(folder), **full_names(settings)}
    )
    return population_of(load_dataset(folder), config, users=users)


def population_of(dataset: Dataset, config: RunConfig, *, users: int) -> Population:
    """The first ``users`` eligible users of a dataset; 0: all of them."""
    network = network_of(dataset, config)
    public, group = (
        {name: torch.from_numpy(array) for name, array in part.items()}
        for part in initial_shared(network)
    )
    rows = eligible_users(dataset, holdout=config.data.holdout)
    rows = rows[:users] if users else rows
    private = {
        name: value.expand(len(rows), *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    routes = np.full((len(rows), config.routes_shape[0]), -1)
    cohort = Cohort(dataset, rows, private, routes)
    return Population(config, network, SharedModel(1, public, group), cohort)


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


def parse_settings(texts: Sequence[str]) -> dict[str, Value]:
    """``["local-steps=3"]`` as run configuration."""
    return {key: _value(text) for key, _, text in (item.partition("=") for item in texts)}


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text

"""What the benchmarks train: a prepared dataset's users with a new network and new private rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from synthetic import write_population

from client_app.training import Cohort, Start
from mrff.config import RunConfig
from mrff.config.parsing import Value
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.windows import eligible_users
from mrff_model.building import build_network, initial_shared, tensors_of
from mrff_model.network import MRFFNetwork

MADE_UP_USERS = 1_000


@dataclass(frozen=True)
class Population:
    """Everything a trainer is given."""

    config: RunConfig
    network: MRFFNetwork
    start: Start
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
    config = RunConfig.from_flat({"dataset": folder.name, "data-dir": str(folder), **settings})
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
    return Population(
        config, network, Start(1, public, group, None), Cohort(dataset, rows, private)
    )


def network_of(dataset: Dataset, config: RunConfig) -> MRFFNetwork:
    """The network of ``config`` for ``dataset``."""
    return build_network(
        item_features=dataset.schema.item_features,
        item_codes=dataset.item_features,
        user_features=dataset.schema.user_features if config.network.user_features else (),
        **config.network_arguments(),
    )


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

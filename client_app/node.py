"""Opens what a node works with: its users' data, the network, the private store.

A node is told where its data lies by its own configuration (``data-dir``, ``state-dir``: a deployed
SuperNode), or by the server (simulation: every node takes its partition of one prepared dataset).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client_app.devices import device_for, host_memory
from client_app.earlier_runs import earlier_stores
from client_app.evaluation_limit import limit_of
from client_app.learners import Cohort, SharedModel
from client_app.pins import LIMITS
from client_app.private_store import PrivateStore
from client_app.sides import node_side
from mrff.algorithms import network_of
from mrff.config import ConfigError, RunConfig, TimesRead
from mrff.data.dataset import Dataset, load_dataset, partition
from mrff.data.schema import SCHEMA_FILE, Ancestor, Schema
from mrff.data.targets import ending_with_targets
from mrff.data.versions import as_of
from mrff.data.windows import eligible_users, training_users, validation_users
from mrff.linear import SCORERS, LinearPart, Mixture
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.mechanisms.base import Mechanism
from mrff.sums import NodeView
from mrff.wire.aggregation import ClientSums, aggregation_of
from mrff.wire.requests import Request, RunFacts
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.shared import Network


@dataclass(frozen=True)
class Node:
    """A node while it answers one message."""

    config: RunConfig
    dataset: Dataset
    users: np.ndarray  # rows of the users who train
    tested: np.ndarray  # rows of those who are scored
    network: Network
    initial_private: dict[str, Tensor]  # (1, ...) each, a new user's own parameters
    store: PrivateStore
    ledger_folder: Path  # outlives runs
    limits: Mapping[str, Any]  # the node's own privacy limits, if it has any
    mechanism: Mechanism
    aggregation: ClientSums
    evaluation_limit: int | None = None  # see `client_app.evaluation_limit`
    honest_nodes: int = 1  # in whatever the server will see; see `ClientSums.submit`

    @property
    def mrff(self) -> MRFFNetwork:
        """The network, for whoever reads more of it than its parameters.

        Raises:
            ConfigError: it is a rival's.
        """
        if isinstance(self.network, MRFFNetwork):
            return self.network
        raise ConfigError(
            f"training.algorithm={self.config.training.algorithm} is a rival to compare with; "
            "a single user's model is opened for runs of MRFF's network only"
        )

    @property
    def user_keys(self) -> np.ndarray:
        """(U,) uint64, of `users`."""
        keys: np.ndarray = self.dataset.user_keys[self.users]
        return keys

    def view(self, request: Request) -> NodeView:
        """What a mechanism may know."""
        return NodeView(
            config=self.config,
            user_keys=self.user_keys,
            population=self.dataset.schema.known_as,
            ledger_folder=self.ledger_folder,
            limits=self.limits,
            training=request.run.training_id,
            round_number=request.facts.round,
            terms=request.facts.terms,
            honest_nodes=self.honest_nodes,
        )

    def model(self, request: Request) -> SharedModel:
        """The shared model that came.

        Raises:
            ConfigError: loads of another shape than this network's, or mixes without linear models.
        """
        loads, shape = request.facts.loads, self.config.routes_shape
        if loads and len(loads) != shape[0] * shape[1]:
            raise ConfigError(f"loads must have {shape[0]} x {shape[1]} numbers, got {len(loads)}")
        public, group = (
            {name: torch.from_numpy(array) for name, array in part.items()}
            for part in (request.public, request.group)
        )
        known = torch.tensor(loads, dtype=torch.float32).view(shape) if loads else None
        return SharedModel(request.facts.round, public, group, known, _mixture(request))

    def cohorts(
        self,
        users: np.ndarray,
        *,
        up_to_round: int,
        together: bool = False,
        even_nobody: bool = False,
    ) -> Iterator[Cohort]:
        """The users in the order of the dataset, as many at once as memory allows.

        The private parameters of a node with very many users never lie in memory all at once.

        Args:
            together: all of them at once, whatever the memory.
            even_nobody: where there are no users, a cohort of nobody.
        """
        size = len(users) if together else self.users_at_once()
        for first in range(0, max(len(users), even_nobody), max(size, 1)):
            yield self.cohort(users[first : first + size], up_to_round=up_to_round)

    def cohort(self, users: np.ndarray, *, up_to_round: int) -> Cohort:
        """The users with their private parameters, and their routes when those were stored."""
        private, routes = self.store.load(
            self.dataset.user_keys[users],
            up_to_round=up_to_round,
            initial=self.initial_private,
            num_layers=self.config.routes_shape[0],
        )
        return Cohort(self.dataset, users, private, routes)

    def users_at_once(self) -> int:
        """How many users' private parameters may lie in memory: it has to hold four sets.

        Four, because they are read, copied, changed and written.
        """
        numbers = sum(value.numel() for value in self.initial_private.values())
        return max(1, host_memory() // (4 * 4 * max(numbers, 1)))


def open_node(
    run_config: Mapping[str, Any],
    node_config: Mapping[str, Any],
    request: Request,
    *,
    as_split: bool = True,
    as_of_run: bool = False,
) -> Node:
    """Opens the node for a request.

    Args:
        as_split: rows as the run's split has them; False: all of its users' rows.
        as_of_run: where the catalogue has grown since the run, what the run knows of it.

    Raises:
        ConfigError: settings that cannot be used, missing node settings, or data of another schema.
        DataError: data that cannot be read.
    """
    config, run = RunConfig.from_flat(run_config), request.run
    mechanism = mechanism_of(config)
    folder = _data_folder(node_config, run.data_dir)
    schema = _schema(folder, _stamp(folder))
    version = schema.ancestor_of(run.schema_hash) if as_of_run else None
    if schema.schema_hash != run.schema_hash and version is None:
        _check_version(schema, config, run)
    config = config.for_data(schema.kind).with_fitted(run.fitted_settings)
    share = 1.0 if config.tests else config.validation_share
    targets = config.for_scoring.data.holdout if as_split and config.holds_out_targets else 0
    dataset = _load(folder, _stamp(folder), version, (targets, share), config.times_read)
    if "data-dir" not in node_config:
        part, parts = int(node_config["partition-id"]), int(node_config["num-partitions"])
        dataset = partition(dataset, part, parts)
    network, initial_private = _network(config, dataset)
    users, tested = _parted(dataset, config)
    if not config.tests:
        dataset = replace(dataset, trains=np.isin(np.arange(dataset.num_users), users))
    side = node_side(config, node_config, run)
    return Node(
        config=config,
        dataset=dataset,
        users=users,
        tested=tested,
        network=network.to(device_for(config.training)),
        initial_private=initial_private,
        store=PrivateStore(
            side.training_folder,
            request.facts.epoch_starts,
            earlier_stores(config, node_config, run),
        ),
        ledger_folder=side.folder,
        limits={key: node_config[key] for key in LIMITS if key in node_config},
        mechanism=mechanism,
        aggregation=aggregation_of(config).client(side),
        evaluation_limit=limit_of(node_config),
    )


def _check_version(schema: Schema, config: RunConfig, run: RunFacts) -> None:
    """Whether a node with other data than the server may take part.

    Raises:
        ConfigError: its catalogue is no earlier version, or the run needs all of it.
    """
    if schema.ancestor_of(run.schema_hash):
        raise ConfigError(
            f"this node's catalogue is version {schema.version}, the run's is an earlier one: "
            "give the server the later version"
        )
    if schema.schema_hash not in run.ancestors:
        raise ConfigError(
            f"this node's data has schema hash {schema.schema_hash}, the run's is "
            f"{run.schema_hash}: give the node a shard of the dataset the server uses"
        )
    needs = "noise has to be in every row" if config.privacy.is_private else ""
    if config.training.linear_items:
        needs = "linear models count every item"
    if needs:
        raise ConfigError(
            f"this node's catalogue is version {schema.version}, the run's is a later one, and "
            f"{needs}: take it with mrff data append --catalogue"
        )


def _mixture(request: Request) -> Mixture | None:
    """The linear models that came and how to mix them, where there are any."""
    if not request.linear or not request.facts.mixes:
        return None
    try:
        mixes = np.array(request.facts.mixes, dtype=np.float64).reshape(-1, len(SCORERS))
        return Mixture(LinearPart.of(request.linear), mixes)
    except ValueError as error:
        raise ConfigError(f"the request's linear models cannot be used: {error}") from error


def _data_folder(node_config: Mapping[str, Any], server_data_dir: str) -> Path:
    if "data-dir" in node_config:
        return Path(str(node_config["data-dir"])).expanduser().absolute()
    if "partition-id" not in node_config:
        raise ConfigError(
            "this node does not know its data: start it with "
            '--node-config \'data-dir="/path/to/shard" state-dir="/path/to/state"\''
        )
    return Path(server_data_dir)


def _stamp(folder: Path) -> int:
    """Another one when the folder was prepared anew."""
    schema = folder / SCHEMA_FILE
    return schema.stat().st_mtime_ns if schema.exists() else 0


@lru_cache(maxsize=2)
def _schema(folder: Path, stamp: int) -> Schema:
    return Schema.load(folder)


@lru_cache(maxsize=2)
def _load(
    folder: Path,
    stamp: int,
    version: Ancestor | None,
    held_out: tuple[int, float],
    read: TimesRead,
) -> Dataset:
    """In simulation one process answers for many nodes: it reads the dataset once.

    Args:
        version: the run's, where the node's catalogue has grown since.
        held_out: how many liked rows of a user, 0: rows stay as they are; and of which share of
            users, see `validation_users`.
        read: what the run reads of times.
    """
    targets, share = held_out
    dataset = load_dataset(folder, read)
    dataset = dataset if version is None else as_of(dataset, version)
    return ending_with_targets(dataset, holdout=targets, share=share) if targets else dataset


def _parted(dataset: Dataset, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the users who train, and of those who are scored."""
    everybody = training_users(dataset)
    if config.tests:
        return everybody, eligible_users(dataset, holdout=config.data.holdout)
    held_out = validation_users(dataset, config.validation_share)
    return np.setdiff1d(everybody, held_out), held_out


def _network(config: RunConfig, dataset: Dataset) -> tuple[Network, dict[str, Tensor]]:
    """The network and a copy of the private parameters it starts with."""
    seed, algorithm = config.training.seed, config.training.algorithm
    arguments = tuple(config.network_arguments().items())
    key = (dataset.schema.schema_hash, seed, algorithm, arguments)
    if key not in _networks:
        network = network_of(config, dataset.schema, dataset.item_features, seed=seed)
        private = {n: value.clone() for n, value in tensors_of(network, "private").items()}
        _networks.clear()
        _networks[key] = network, private
    return _networks[key]


# The one network of this process; every message loads its own parameters into it.
_networks: dict[tuple[Any, ...], tuple[Network, dict[str, Tensor]]] = {}

"""Opens what a node works with: its users' data, the network, the private store.

A node is told where its data lies by its own configuration (``data-dir``, ``state-dir``: a deployed
SuperNode), or by the server (simulation: every node takes its partition of one prepared dataset).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from client_app.devices import device_for
from client_app.private_store import PrivateStore
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Dataset, load_dataset, partition
from mrff.data.windows import eligible_users
from mrff_model.building import build_network, tensors_of
from mrff_model.network import MRFFNetwork

OWN_LIMITS = ("epsilon-budget", "delta")


@dataclass(frozen=True)
class Node:
    """A node while it answers one message."""

    config: RunConfig
    dataset: Dataset
    users: np.ndarray  # rows of the users long enough for the split
    network: MRFFNetwork
    initial_private: dict[str, Tensor]  # (1, ...) each, a new user's own parameters
    store: PrivateStore
    ledger_folder: Path  # outlives runs
    limits: Mapping[str, Any]  # the node's own privacy limits, if it has any

    @property
    def routes_shape(self) -> tuple[int, int]:
        """Layers and experts that a user is routed through."""
        return self.config.routes_shape

    @property
    def user_keys(self) -> np.ndarray:
        """(U,) uint64, of `users`."""
        keys: np.ndarray = self.dataset.user_keys[self.users]
        return keys


def open_node(
    run_config: Mapping[str, Any], node_config: Mapping[str, Any], request: Mapping[str, Any]
) -> Node:
    """Opens the node for a message whose ``round`` record is ``request``.

    Raises:
        ConfigError: settings that cannot be used, missing node settings, or data of another schema.
        DataError: data that cannot be read.
    """
    config = RunConfig.from_flat(run_config)
    dataset = _open_dataset(node_config, str(request["data-dir"]))
    if dataset.schema.schema_hash != request["schema-hash"]:
        raise ConfigError(
            f"this node's data has schema hash {dataset.schema.schema_hash}, the run's is "
            f"{request['schema-hash']}: give the node a shard of the dataset the server uses"
        )
    starts = [int(start) for start in request["epoch-starts"]]
    network, initial_private = _network(config, dataset)
    return Node(
        config=config,
        dataset=dataset,
        users=eligible_users(dataset, holdout=config.data.holdout),
        network=network.to(device_for(config.training)),
        initial_private=initial_private,
        store=PrivateStore(_state_folder(node_config, request), starts),
        ledger_folder=Path(str(node_config.get("state-dir", request["state-dir"]))).expanduser(),
        limits={key: node_config[key] for key in OWN_LIMITS if key in node_config},
    )


def _open_dataset(node_config: Mapping[str, Any], server_data_dir: str) -> Dataset:
    if "data-dir" in node_config:
        return _load(Path(str(node_config["data-dir"])).expanduser().absolute())
    if "partition-id" not in node_config:
        raise ConfigError(
            "this node does not know its data: start it with "
            '--node-config \'data-dir="/path/to/shard" state-dir="/path/to/state"\''
        )
    whole = _load(Path(server_data_dir))
    return partition(whole, int(node_config["partition-id"]), int(node_config["num-partitions"]))


def _state_folder(node_config: Mapping[str, Any], request: Mapping[str, Any]) -> Path:
    training = str(request["training-id"])
    if "state-dir" in node_config:
        return Path(str(node_config["state-dir"])).expanduser().absolute() / training
    if "partition-id" not in node_config:
        raise ConfigError(
            "this node has nowhere to keep private parameters: start it with "
            "--node-config 'state-dir=\"/path/to/state\"'"
        )
    part = f"node-{node_config['partition-id']}-of-{node_config['num-partitions']}"
    return Path(str(request["state-dir"])) / training / part


def _load(folder: Path) -> Dataset:
    schema = folder / "schema.json"
    stamp = schema.stat().st_mtime_ns if schema.exists() else 0
    return _load_once(folder, stamp)


@lru_cache(maxsize=2)
def _load_once(folder: Path, stamp: int) -> Dataset:
    """In simulation one process answers for many nodes: it reads the dataset once."""
    return load_dataset(folder)


def _network(config: RunConfig, dataset: Dataset) -> tuple[MRFFNetwork, dict[str, Tensor]]:
    """The network and a copy of the private parameters it starts with."""
    arguments = config.network_arguments()
    key = (dataset.schema.schema_hash, config.network.user_features, tuple(arguments.items()))
    if key not in _networks:
        network = build_network(
            item_features=dataset.schema.item_features,
            item_codes=dataset.item_features,
            user_features=dataset.schema.user_features if config.network.user_features else (),
            **arguments,
        )
        private = {n: value.clone() for n, value in tensors_of(network, "private").items()}
        _networks.clear()
        _networks[key] = network, private
    return _networks[key]


# The one network of this process; every message loads its own parameters into it.
_networks: dict[tuple[Any, ...], tuple[MRFFNetwork, dict[str, Tensor]]] = {}

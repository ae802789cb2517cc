"""The nodes of a run whose data and private state lie on this machine, and one user's model.

In simulation that is every node. On a deployed node it is the node itself, named by its own
``--data-dir`` and ``--state-dir``. Elsewhere private parameters are not to be had, by design.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client_app.node import Node, open_node
from client_app.rounds import open_cohort
from mrff.ops.trained_run import BestModel, RunError
from mrff_model.building import load_shared, tensors_of
from mrff_model.network import Batch, MRFFNetwork

NO_FEEDBACK = 0


@dataclass(frozen=True)
class NodesAtHand:
    """Opens nodes with the best model loaded.

    Args:
        best: the run's best model.
        data_dir: a deployed node's shard; None: the dataset the simulation used.
        state_dir: where private state lies; None: where the run put it.
    """

    best: BestModel
    data_dir: Path | None = None
    state_dir: Path | None = None

    @property
    def state_folder(self) -> Path:
        """Where this run's private state should be."""
        root = self.state_dir or self.best.config.home / "state"
        return root.expanduser().absolute() / self.best.training_id

    @property
    def dataset_folder(self) -> Path:
        """The prepared dataset, or the node's shard of it."""
        named = self.data_dir or self.best.config.dataset_path
        return named.expanduser().absolute()

    @property
    def has_private_state(self) -> bool:
        """Whether any node has trained here."""
        return any(self.state_folder.rglob("round-*.safetensors"))

    def open_all(self) -> Iterator[Node]:
        """One node after the other; they share one network, which holds the best shared model.

        Raises:
            RunError: the run is of a kind that cannot be opened, or its model is damaged.
            DataError, ConfigError: it cannot be read.
        """
        best = self.best
        if best.config.network.clusters:
            raise RunError(
                f"run {best.training_id} learned clusters={best.config.network.clusters} copies of "
                "the network; a single user's model is opened for runs with clusters=0 only"
            )
        run_config = {**best.config.to_flat(), "device": "cpu"}
        request = {
            "schema-hash": best.schema_hash,
            "data-dir": str(self.dataset_folder),
            "state-dir": str(self.state_folder.parent),
            "training-id": best.training_id,
            "epoch-starts": best.epoch_starts,
        }
        for node_config in self._node_configs():
            node = open_node(run_config, node_config, request)
            _load_best(node.network, best)
            yield node

    def _node_configs(self) -> list[dict[str, Any]]:
        if self.data_dir is not None:
            state = str(self.state_folder.parent)
            return [{"data-dir": str(self.dataset_folder), "state-dir": state}]
        layouts = [p for p in self.state_folder.glob("node-*-of-*") if p.is_dir()]
        if not layouts:
            return [{"partition-id": 0, "num-partitions": 1}]
        # A run resumed with another number of nodes goes on with the newer folders.
        newest = max(layouts, key=lambda path: path.stat().st_mtime_ns)
        nodes = int(newest.name.rsplit("-", 1)[1])
        return [{"partition-id": i, "num-partitions": nodes} for i in range(nodes)]


@dataclass(frozen=True)
class UserModel:
    """The network with one user's private parameters, and the user's history."""

    network: MRFFNetwork
    node: Node
    is_known: bool  # in the node's data
    has_own: bool  # private parameters of the best round or an earlier one
    items: np.ndarray  # (n,) int64 codes of all interactions, newest last
    labels: np.ndarray  # (n,) 0 or 1
    user_codes: Mapping[str, Tensor]
    private: Mapping[str, Tensor]  # (1, ...) each

    @property
    def most_history(self) -> int:
        """How many history items the network reads: a window has one more position, the start."""
        return self.node.config.data.window_length - 1

    def recent(self) -> tuple[np.ndarray, np.ndarray]:
        """Items and labels that the network reads."""
        return self.items[-self.most_history :], self.labels[-self.most_history :]

    def batch(self, items: np.ndarray, feedback: np.ndarray) -> Batch:
        """Histories of this user (B, n), each with ``feedback`` 1 + label, as windows."""
        start = np.zeros((len(items), 1), dtype=np.int64)
        window = torch.from_numpy(np.concatenate([start, items], axis=1))[:, None]  # (B, 1, n + 1)
        codes = np.concatenate([start + NO_FEEDBACK, feedback], axis=1)
        return Batch(
            items=window,
            feedback=torch.from_numpy(codes)[:, None],
            targets=torch.zeros_like(window),
            labels=torch.zeros(window.shape),
            mask=torch.zeros(window.shape, dtype=torch.bool),
            real=torch.ones(window.shape, dtype=torch.bool),
            user_codes={n: c.expand(len(items), *c.shape[1:]) for n, c in self.user_codes.items()},
        )


def open_user(nodes: NodesAtHand, user: str) -> UserModel:
    """The model of a user; the shared one for a user that no node knows.

    Raises:
        RunError: see `NodesAtHand.open_all`.
        PrivateStoreError: the private state is damaged or of another network.
    """
    node = None
    for node in nodes.open_all():
        rows = np.flatnonzero(node.dataset.user_ids == user)
        if len(rows):
            return _known(node, rows, nodes.best.round)
    assert node is not None  # there is always a node
    codes = {
        name: torch.zeros((1, *codes.shape[1:]), dtype=torch.int64)
        for name, codes in node.dataset.user_features.items()
    }
    nothing = np.zeros(0, dtype=np.int64)
    return _model(node, dict(node.initial_private), nothing, nothing, codes, known=False, own=False)


def _known(node: Node, rows: np.ndarray, best_round: int) -> UserModel:
    cohort, routes = open_cohort(node, rows, up_to_round=best_round)
    dataset = node.dataset
    events = slice(dataset.offsets[rows[0]], dataset.offsets[rows[0] + 1])
    codes = {n: torch.from_numpy(c[rows]).long() for n, c in dataset.user_features.items()}
    return _model(
        node, dict(cohort.private),
        dataset.items[events].astype(np.int64), dataset.labels[events].astype(np.int64), codes,
        known=True, own=bool((routes >= 0).all()),
    )  # fmt: skip


def _model(
    node: Node,
    private: dict[str, Tensor],
    items: np.ndarray,
    labels: np.ndarray,
    codes: Mapping[str, Tensor],
    *,
    known: bool,
    own: bool,
) -> UserModel:
    for name, value in tensors_of(node.network, "private").items():
        value.copy_(private[name])
    return UserModel(node.network, node, known, own, items, labels, codes, private)


def _load_best(network: MRFFNetwork, best: BestModel) -> None:
    names = tensors_of(network, "public").keys()
    public = {name: array for name, array in best.arrays.items() if name in names}
    group = {name: array for name, array in best.arrays.items() if name not in names}
    try:
        load_shared(network, public, group)
    except ValueError as error:
        raise RunError(f"the best model of run {best.training_id} is damaged: {error}") from error

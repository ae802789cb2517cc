"""The nodes of a run whose data and private state lie on this machine.

In simulation that is every node. On a deployed node it is the node itself, named by its own
``--data-dir`` and ``--state-dir``. Elsewhere private parameters are not to be had, by design.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_app.node import Node, open_node
from client_app.private_store import FILE as PRIVATE_STORE
from mrff.ops.trained_run import BestModel, RunError
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import load_shared, tensors_of


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
        return any(self.state_folder.rglob(PRIVATE_STORE))

    def open_all(self, *, as_split: bool = True) -> Iterator[Node]:
        """One node after the other; they share one network, which holds the best shared model.

        Args:
            as_split: see `open_node`.

        Raises:
            RunError: the run is of a kind that cannot be opened, or its model is damaged.
            DataError, ConfigError: it cannot be read.
        """
        best = self.best
        if best.config.network.clusters:
            raise RunError(
                f"run {best.training_id} learned clusters={best.config.network.clusters} copies of "
                "the network; a single user's model is opened for runs with clusters=off only"
            )
        run_config = {**best.config.to_flat(), "training.device": "cpu"}
        facts = RunFacts(
            schema_hash=best.schema_hash,
            training_id=best.training_id,
            data_dir=str(self.dataset_folder),
            state_dir=str(self.state_folder.parent),
            lineage=best.lineage,
        )
        request = Request(facts, RoundFacts(best.round, best.epoch_starts), {}, {})
        for node_config in self._node_configs():
            node = open_node(run_config, node_config, request, as_split=as_split, as_of_run=True)
            names = tensors_of(node.mrff, "public").keys()
            public = {name: array for name, array in best.arrays.items() if name in names}
            group = {name: array for name, array in best.arrays.items() if name not in names}
            try:
                load_shared(node.network, public, group)
            except ValueError as error:
                raise RunError(
                    f"the best model of run {best.training_id} is damaged: {error}"
                ) from error
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

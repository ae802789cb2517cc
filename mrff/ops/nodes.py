"""The nodes of a run whose data and private state lie on this machine, and one user's model.

In simulation that is every node. On a deployed node it is the node itself, named by its own
``--data-dir`` and ``--state-dir``. Elsewhere private parameters are not to be had, by design.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client_app.learners.counted import Fields, counted_histories
from client_app.node import Node, open_node
from client_app.private_store import FILE as PRIVATE_STORE
from mrff.data.errors import DataError
from mrff.linear import Mixture
from mrff.ops.trained_run import BestModel, RunError
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.batch import Batch
from mrff_model.building import load_shared, tensors_of
from mrff_model.network import MRFFNetwork


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


@dataclass(frozen=True)
class UserModel:
    """The network with one user's private parameters, and the user's history."""

    name: str
    node: Node
    best_round: int
    is_known: bool  # in the node's data
    has_own: bool  # private parameters of the best round or an earlier one
    items: np.ndarray  # (n,) int64 codes of all interactions, newest last
    labels: np.ndarray  # (n,) 0 or 1
    user_codes: Mapping[str, Tensor]
    private: Mapping[str, Tensor]  # (1, ...) each
    mixture: Mixture | None = None  # linear models that rank beside the network
    times: np.ndarray | None = None  # (n,) of the interactions; None where the run reads none
    row: int | None = None  # of the user in the node's data; None: they are not there

    @property
    def network(self) -> MRFFNetwork:
        """The node's, with this user's private parameters in it."""
        return self.node.mrff

    @property
    def provenance(self) -> str:
        """Whose parameters answer, in one sentence."""
        shared = f"shared model of round {self.best_round}"
        if not self.is_known and len(self.items):
            liked = "all" if self.labels.all() else f"{self.labels.sum()} of them"
            return f"{self.name}, {len(self.items)} items of history, {liked} liked: the {shared}"
        if not self.is_known:
            return f"user {self.name} is unknown here: no history, the {shared}"
        if not self.private:
            return f"user {self.name}: {shared}; nothing in it is private"
        if not self.has_own:
            return (
                f"user {self.name} has no private parameters up to round {self.best_round} here: "
                "the shared model with the user's own history"
            )
        return f"user {self.name}: {shared} with the user's private parameters"

    @property
    def most_history(self) -> int:
        """How many history items the network reads: a window has one more position, the start."""
        return self.node.config.data.window_length - 1

    def recent(self) -> tuple[np.ndarray, np.ndarray]:
        """Items and labels that the network reads."""
        return self.items[-self.most_history :], self.labels[-self.most_history :]

    @property
    def histories(self) -> Batch:
        """What the network reads, as one window (1, 1, n + 1)."""
        number = len(self.recent()[0])
        batch = self.histories_of(np.arange(number)[None])
        if self.row is None:
            return batch
        end = self.node.dataset.offsets[self.row] + len(self.items)
        return batch.with_fields(self._counted(np.arange(end - number, end)[None]))

    def histories_of(self, places: np.ndarray) -> Batch:
        """The same with some of its interactions only, ``places`` (B, n) of `recent`."""
        items, labels = self.recent()
        batch = self.batch(items[places], labels[places])
        if self.times is None:
            return batch
        times = self.times[-self.most_history :] if self.most_history else self.times[:0]
        return with_times(batch, times[places])

    def batch(self, items: np.ndarray, labels: np.ndarray) -> Batch:
        """Histories of this user (B, n) with their labels, as windows without times."""
        feedback = torch.from_numpy(labels.astype(np.int64) + 1)
        batch = windows_of(torch.from_numpy(items), feedback, self.user_codes)
        earlier = self.earlier.expand(len(items), -1)
        batch = batch._replace(earlier=(earlier,) if earlier.shape[1] else ())
        return batch._replace(past=tuple(field.expand(len(items), -1) for field in self.past))

    @property
    def past(self) -> tuple[Tensor, ...]:
        """(1, E) each of rows before those of `recent`, as far as inputs read them."""
        if not self.node.config.reads_item_statistics:
            return ()
        if self.row is not None:
            first = self.node.dataset.offsets[self.row] + len(self.items) - len(self.recent()[0])
            return self._counted(np.array([[first]]))["past"]
        before, labels = (v[: -self.most_history] for v in (self.items, self.labels))
        items, feedback = (torch.from_numpy(v)[None] for v in (before, labels + 1))
        return items, feedback, torch.zeros_like(items, dtype=torch.bool)

    def _counted(self, rows: np.ndarray) -> Fields:
        users = np.array([self.row])
        return counted_histories(self.node.dataset, users, rows, self.node.config)

    @property
    def earlier(self) -> Tensor:
        """(1, E) items before those of `recent`, as far as gates read them."""
        data = self.node.config.data
        before = self.items[: -self.most_history] if self.most_history else self.items
        reads = self.node.config.gate_input == "earlier"
        return torch.from_numpy(before[-data.window_length :] if reads else before[:0])[None]


def windows_of(items: Tensor, feedback: Tensor, user_codes: Mapping[str, Tensor]) -> Batch:
    """Histories (B, n), ``feedback`` being 1 + label, of users with codes (B, ...) or (1, ...)."""
    start = torch.zeros((items.shape[0], 1), dtype=torch.int64)
    window = torch.cat([start, items], dim=1)[:, None]  # (B, 1, n + 1)
    nothing = torch.zeros_like(window)
    return Batch(
        items=window,
        feedback=torch.cat([start, feedback], dim=1)[:, None],
        targets=nothing,
        labels=nothing.to(torch.float32),
        mask=nothing > 0,
        real=nothing == 0,
        user_codes={n: c.expand(items.shape[0], *c.shape[1:]) for n, c in user_codes.items()},
    )


def with_times(histories: Batch, times: np.ndarray) -> Batch:
    """The windows (B, 1, n + 1) with the times (B, n) of their items, and that of the question."""
    return histories._replace(times=(torch.from_numpy(asked_after(times))[:, None],))


def asked_after(times: np.ndarray) -> np.ndarray:
    """Times of histories (B, n), and when an answer is asked for: (B, n + 1).

    That is as long after the last item as the user's median pause between two moments, so that
    somebody who was away for years is answered as on their usual day. It is later than all items:
    every label is known.
    """
    now = np.ones((len(times), 1), dtype=np.int64)
    for row, pauses in enumerate(np.diff(times, axis=1)):
        if pauses.any():
            now[row] = int(np.median(pauses[pauses > 0]))
    now += times[:, -1:].sum(axis=1, keepdims=True)
    return np.concatenate([times, now], axis=1)


def check_before_test(best: BestModel) -> None:
    """Whether there is a test to stand before.

    Raises:
        RunError: the run held nothing out.
    """
    if not best.config.tests:
        raise RunError(
            f"run {best.training_id} has data.holdout=0: nothing was held out for a test; leave "
            "--before-test out"
        )


def open_user(nodes: NodesAtHand, user: str, *, before_test: bool = False) -> UserModel:
    """The model of a user; the shared one for a user that no node knows.

    Args:
        before_test: as if the user's held-out test interactions had not happened.

    Raises:
        RunError: see `NodesAtHand.open_all`.
        PrivateStoreError: the private state is damaged or of another network.
    """
    if before_test:
        check_before_test(nodes.best)
    for node in nodes.open_all(as_split=before_test):  # there is always one
        rows = np.flatnonzero(node.dataset.user_ids == user)
        if len(rows):
            return user_at(nodes.best, node, int(rows[0]), before_test=before_test)
    return loaded(newcomer(nodes.best, node, user))


def user_at(best: BestModel, node: Node, row: int, *, before_test: bool = False) -> UserModel:
    """The model of the user in ``row`` of a node's data."""
    dataset, rows = node.dataset, np.array([row])
    cohort = node.cohort(rows, up_to_round=best.round)
    held_out = best.config.data.holdout if before_test else 0
    first, last = dataset.offsets[row], dataset.offsets[row + 1]
    events = slice(first, max(first, last - held_out))
    features = {name: codes[rows] for name, codes in dataset.user_features.items()}
    return loaded(
        replace(
            newcomer(best, node, str(dataset.user_ids[row])),
            is_known=True,
            row=row,
            has_own=bool((cohort.routes >= 0).all()),
            items=dataset.items[events].astype(np.int64),
            labels=dataset.labels[events].astype(np.int64),
            times=None if dataset.times is None else dataset.times[events],
            user_codes={name: torch.from_numpy(codes).long() for name, codes in features.items()},
            private=cohort.private,
        )
    )


def open_history(nodes: NodesAtHand, items: np.ndarray) -> UserModel:
    """The shared model, for somebody who is in no data and liked ``items`` (n,), newest last."""
    return with_history(nodes.best, next(nodes.open_all()), items, np.ones_like(items))


def with_history(best: BestModel, node: Node, items: np.ndarray, labels: np.ndarray) -> UserModel:
    """The shared model, for somebody who is in no data, with items and labels (n,) of theirs.

    Raises:
        DataError: an item came into the catalogue after the run.
    """
    known = node.dataset.schema.num_items
    if items.max(initial=0) > known:
        raise DataError(
            f"the item with code {items.max()} came into the catalogue after this run, which knows "
            f"{known}: leave it out, or recommend by a run that goes on from it"
        )
    somebody = newcomer(best, node, "somebody who is in no data")
    times = None if somebody.times is None else np.arange(len(items))  # one after the other
    return loaded(replace(somebody, items=items, labels=labels, times=times))


def loaded(model: UserModel) -> UserModel:
    """The same, with the private parameters in the network."""
    for name, value in tensors_of(model.network, "private").items():
        value.copy_(model.private[name])
    return model


def newcomer(best: BestModel, node: Node, name: str) -> UserModel:
    """Somebody without a history, of whom nothing is known."""
    nothing, features = np.zeros(0, dtype=np.int64), node.dataset.user_features
    unknown = {n: torch.zeros((1, *c.shape[1:])).long() for n, c in features.items()}
    return UserModel(
        name=name,
        node=node,
        best_round=best.round,
        is_known=False,
        has_own=False,
        items=nothing,
        labels=nothing,
        user_codes=unknown,
        private=node.initial_private,
        mixture=best.mixture,
        times=None if node.dataset.times is None else nothing,
    )

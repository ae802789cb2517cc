"""One user's model: the network with their private parameters, and their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from client_app.learners.counted import Fields, counted_histories
from client_app.node import Node
from mrff.data.errors import DataError
from mrff.linear import Mixture
from mrff.ops.histories import windows_of, with_times
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import BestModel, RunError
from mrff_model.batch import Batch
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork


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

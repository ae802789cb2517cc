"""A run's best model while it answers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from client_app.node import Node
from mrff.data.dataset import load_item_ids, load_titles
from mrff.data.errors import DataError
from mrff.ops.item_names import ItemNames
from mrff.ops.nodes import NodesAtHand
from mrff.ops.recommend import answer, order_of
from mrff.ops.trained_run import BestModel
from mrff.ops.user_model import UserModel, user_at, with_history
from mrff.ops.wish import Wish
from mrff_model.building import has_shared_items


class UnknownUserError(DataError):
    """No node at hand has the user."""


@dataclass(frozen=True)
class Served:
    """One best model with everything that an answer needs; any thread may ask.

    Users move into the one network one after the other: an answer holds it while it computes.
    """

    best: BestModel
    nodes: list[Node]  # they share one network, which is nobody else's
    places: Mapping[str, tuple[int, int]]  # by user: which node, which row
    ids: list[str]  # of items by code; entry 0 is no item
    titles: list[str]
    names: ItemNames
    popular: np.ndarray  # (items,) codes, what most users of these nodes met first
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def loaded(cls, nodes: NodesAtHand) -> Served:
        """Opens everything.

        Raises:
            RunError, DataError, ConfigError: the run or its data cannot be used.
        """
        opened = list(nodes.open_all(as_split=False))
        network = copy.deepcopy(opened[0].mrff)  # opening a newer model must not change this one
        if has_shared_items(network):
            network.item_features.fix()
        opened = [replace(node, network=network) for node in opened]
        places = {
            str(user): (number, row)
            for number, node in enumerate(opened)
            for row, user in enumerate(node.dataset.user_ids)
        }
        met = sum(
            np.bincount(node.dataset.items, minlength=node.dataset.schema.num_items + 1)
            for node in opened
        )
        ids, titles = load_item_ids(nodes.dataset_folder), load_titles(nodes.dataset_folder)
        popular = np.argsort(-np.asarray(met)[1:], kind="stable") + 1
        return cls(nodes.best, opened, places, ids, titles, ItemNames(ids, titles), popular)

    @property
    def about(self) -> dict[str, Any]:
        """What answers here."""
        return {
            "run": self.best.training_id,
            "best_round": self.best.round,
            "objective": self.nodes[0].config.objective,
            "ordered_by": order_of(self.nodes[0].config.objective, self.best.mixture),
            "users": len(self.places),
            "items": len(self.ids) - 1,
        }

    def for_user(self, user: str, wish: Wish, *, explain: bool) -> dict[str, Any]:
        """See `mrff.ops.recommend.answer`; every item has its ``id`` as well.

        Raises:
            UnknownUserError: nobody here is called so.
            DataError: see `mrff.ops.recommend.recommend`.
        """
        node, row = self._place(user)
        with self.lock:
            return self._answer(user_at(self.best, node, row), wish, explain=explain)

    def for_history(
        self, texts: list[str], liked: list[bool], wish: Wish, *, explain: bool
    ) -> dict[str, Any]:
        """The same for somebody who is in no data, by items that the texts name, newest last.

        Raises:
            DataError: a text names no item or several; see `mrff.ops.recommend.recommend`.
        """
        items = np.array([self._item(text) for text in texts], dtype=np.int64)
        labels = np.array(liked, dtype=np.int64)
        with self.lock:
            somebody = with_history(self.best, self.nodes[0], items, labels)
            return self._answer(somebody, wish, explain=explain)

    def history(self, user: str, last: int) -> list[dict[str, Any]]:
        """What the user met, the newest first."""
        node, row = self._place(user)
        data = node.dataset
        first, end = data.offsets[row], data.offsets[row + 1]
        places = range(end - 1, max(first, end - last) - 1, -1)
        return [
            {**self._named(int(data.items[place])), "liked": bool(data.labels[place])}
            for place in places
        ]

    def most_met(self, user: str, top: int) -> list[dict[str, Any]]:
        """What most users here met and this one did not: the list to compare with."""
        node, row = self._place(user)
        mine = node.dataset.items[node.dataset.offsets[row] : node.dataset.offsets[row + 1]]
        new = self.popular[~np.isin(self.popular, mine)]
        return [self._named(int(code)) for code in new[:top]]

    def _place(self, user: str) -> tuple[Node, int]:
        try:
            number, row = self.places[user]
        except KeyError:
            raise UnknownUserError(
                f"user {user!r} is not in the data of this node; send what they like as a history"
            ) from None
        return self.nodes[number], row

    def _item(self, text: str) -> int:
        found = self.names.items([text])
        if len(found) != 1:
            raise DataError(f"{text!r} names {len(found)} items, an entry of a history is one")
        return int(found[0])

    def _answer(self, user: UserModel, wish: Wish, *, explain: bool) -> dict[str, Any]:
        said = answer(user, self.titles, wish, explain=explain)
        for line in said["items"]:
            line["id"] = self.ids[line["code"]]
        return said

    def _named(self, code: int) -> dict[str, Any]:
        return {"item": self.titles[code], "id": self.ids[code], "code": code}

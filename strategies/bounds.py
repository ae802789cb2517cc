"""Bounds on what one node can do to a round: its weight per user, and the size of its update.

A sum can be well formed and still absurd. One node with an update of 1e30 would fail the round, or
fill the server optimiser's second moments so that nothing moves for a hundred rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrff_model.scopes import expert_of
from strategies.aggregation import Arrays
from strategies.replies import BadReplyError, TrainReply

_ROUNDING = 1.0 + 1e-5


@dataclass(frozen=True)
class Bounds:
    """What a train reply has to keep to.

    ``update_norm`` is the largest L2 norm of a node's mean update, over the public arrays and over
    each expert of each layer; 0: any. Where it is reached says how far one node can pull a round:
    by its share of the users times this bound.
    """

    update_norm: float = 0.0

    def check(self, reply: TrainReply) -> None:
        """Returns if the reply may count.

        Raises:
            BadReplyError: more weight than its users can have (one each, or their numbers of
                targets), or too large an update.
        """
        most = max(reply.num_users, reply.num_targets)
        if reply.weight > most * _ROUNDING:
            raise BadReplyError(
                f"weight {reply.weight:g} is more than {reply.num_users} users with "
                f"{reply.num_targets} targets can have"
            )
        if self.update_norm > 0.0 and reply.num_users > 0:
            self._check_norm("public", reply.public, reply.weight)
            experts: dict[tuple[int, int], Arrays] = {}
            for name, array in reply.group.items():
                experts.setdefault(expert_of(name), {})[name] = array
            for (layer, expert), arrays in experts.items():
                weight = float(reply.expert_weight[layer, expert])
                self._check_norm(f"expert {expert} of layer {layer}", arrays, weight)

    def _check_norm(self, part: str, arrays: Arrays, weight: float) -> None:
        squares = (float(np.square(array, dtype=np.float64).sum()) for array in arrays.values())
        norm = float(np.sqrt(sum(squares))) / weight
        if norm > self.update_norm:
            raise BadReplyError(
                f"{part}: the mean update has norm {norm:.3g}, more than max-update-norm="
                f"{self.update_norm:g}"
            )

"""What becomes of a round's replies: the seam between the loop over rounds and a privacy mode."""

from __future__ import annotations

from typing import Any, Protocol

from flwr.app import RecordDict

from mrff_model.metrics import load_shares
from strategies.aggregation import UpdateSum
from strategies.bounds import Bounds
from strategies.pooling import Means
from strategies.replies import Expected, read_train_reply
from strategies.reports import RoundReport, Traffic, TrainSums
from strategies.state import TrainingState


class RoundSums(Protocol):
    """One round: takes replies in as they arrive, then says what they come to."""

    def read(self, content: RecordDict) -> None:
        """Takes a reply in, or raises BadReplyError before it has changed anything."""
        ...

    def finish(self, state: TrainingState) -> Means:
        """The mean update of every block that moves; notes loads and the like in ``state``.

        Called once, after the last reply.
        """
        ...

    def report(self, server_round: int, traffic: Traffic) -> RoundReport:
        """The round's measures, after `finish`."""
        ...


class Aggregation(Protocol):
    """How a run makes means out of replies."""

    @property
    def routes_are_hidden(self) -> bool:
        """Whether nodes keep all route counts of evaluations to themselves."""
        ...

    def prepare(self, server_round: int, state: TrainingState) -> dict[str, Any]:
        """What the round's request says beside the usual; called before anything is sent.

        Raises:
            BudgetExceededError: the round must not take place.
        """
        ...

    def begin(self, server_round: int, expected: Expected, state: TrainingState) -> RoundSums:
        """The sums of a new round."""
        ...


class PlainAggregation:
    """Exact means: public over all users, each expert over those who chose it, then pooled.

    Args:
        bounds: what a reply has to keep to beside being well formed.
        expert_pooling: see `strategies.pooling`.
    """

    routes_are_hidden = False

    def __init__(self, bounds: Bounds | None = None, *, expert_pooling: float = 0.0) -> None:
        self._bounds = bounds or Bounds()
        self._expert_pooling = expert_pooling

    def prepare(self, server_round: int, state: TrainingState) -> dict[str, Any]:
        """Nothing more is said."""
        return {}

    def begin(self, server_round: int, expected: Expected, state: TrainingState) -> RoundSums:
        """See `Aggregation.begin`."""
        updates = UpdateSum(expected.num_layers, expected.num_experts, self._expert_pooling)
        return _PlainSums(server_round, expected, self._bounds, updates)


class _PlainSums:
    def __init__(
        self, server_round: int, expected: Expected, bounds: Bounds, updates: UpdateSum
    ) -> None:
        self._round, self._expected, self._bounds = server_round, expected, bounds
        self._updates = updates
        self._sums = TrainSums(expected.num_layers, expected.num_experts)

    def read(self, content: RecordDict) -> None:
        reply = read_train_reply(content, self._expected, self._round)
        self._bounds.check(reply)
        self._sums.add(reply)
        self._updates.add(
            reply.public, reply.group, weight=reply.weight, expert_weight=reply.expert_weight
        )

    def finish(self, state: TrainingState) -> Means:
        if self._sums.users:
            state.loads = load_shares(self._sums.expert_users).ravel().tolist()
        return self._updates.mean()

    def report(self, server_round: int, traffic: Traffic) -> RoundReport:
        return self._sums.report(server_round, traffic)

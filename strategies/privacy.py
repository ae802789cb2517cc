"""Aggregation under a privacy mode: one vector per node, one noise, no exact number published.

In ``central-user`` nodes send sums of clipped vectors and the server adds the noise, once, before
anything else sees the sum. In the other modes noise is in the replies already. Either way the sum
is divided by a number that does not depend on who was drawn or what anybody chose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from mrff.privacy.accounting import check_delta
from mrff.privacy.bound import Bound
from mrff.privacy.noise import NoiseSource
from mrff_model.metrics import load_entropy
from strategies.pooling import Means, pool_experts
from strategies.privacy_replies import PrivateReply, read_private_reply
from strategies.replies import Expected, require
from strategies.reports import RoundReport, Traffic
from strategies.state import TrainingState

Spend = Callable[[int], float | None]  # notes a round; epsilon with it, None: not the server's


@dataclass(frozen=True)
class PrivateAggregation:
    """How private rounds are added up; see `strategies.round_sums.Aggregation`.

    Args:
        spend: called before a round is asked for; raises BudgetExceededError to refuse it.
        clipping_norm: C of the first round.
        order: norm that vectors are clipped in, 2 or 1.
        noise_multiplier: of the noise that the server adds; None: it is in the replies.
        sampling_rate: expected share of the units behind a reply's sum; 1 where all of them are.
        quantile, adaptation_rate: of adaptive clipping; rate 0 keeps C.
        frozen: prefixes of arrays that are neither trained nor sent.
        weight_of: what an array in the network was multiplied with before it was clipped.
        delta: checked against the number of units.
        make_source: the noise of a round.
        expert_pooling: see `strategies.pooling`; computed from the noisy sum, it costs no privacy.
    """

    spend: Spend
    clipping_norm: float
    route_share: float
    order: int
    noise_multiplier: float | None
    sampling_rate: float
    quantile: float
    adaptation_rate: float
    frozen: tuple[str, ...]
    weight_of: Callable[[str], float]
    delta: float
    make_source: Callable[[int], NoiseSource]
    expert_pooling: float = 0.0
    routes_are_hidden: bool = True

    def prepare(self, server_round: int, state: TrainingState) -> dict[str, Any]:
        """Notes the cost, then says what to clip to."""
        if state.clipping_norm <= 0.0:
            state.clipping_norm = self.clipping_norm
        state.epsilon = self.spend(server_round)
        return {"clipping-norm": state.clipping_norm}

    def begin(self, server_round: int, expected: Expected, state: TrainingState) -> PrivateSums:
        """See `Aggregation.begin`."""
        bound = Bound(
            state.clipping_norm or self.clipping_norm,
            self.route_share,
            expected.num_layers,
            expected.num_experts,
            order=1 if self.order == 1 else 2,
        )
        return PrivateSums(self, server_round, expected.without(self.frozen), bound, state)


class PrivateSums:
    """One private round; see `strategies.round_sums.RoundSums`."""

    def __init__(
        self,
        how: PrivateAggregation,
        server_round: int,
        expected: Expected,
        bound: Bound,
        state: TrainingState,
    ) -> None:
        self._how, self._round, self._expected, self._bound = how, server_round, expected, bound
        shapes = {**expected.public, **expected.group}
        self._totals: Means = {name: np.zeros(shape) for name, shape in shapes.items()}
        self._statistics = np.zeros(bound.num_statistics)
        self._units, self._variance = 0, 0.0
        self._privacy: dict[str, float | None] = {}
        self._loads: NDArray[np.float64] | None = None
        self._epsilon = state.epsilon

    def read(self, content: RecordDict) -> None:
        """Takes a node's sum in."""
        reply = read_private_reply(
            content, self._expected, self._round, num_statistics=self._bound.num_statistics
        )
        if self._how.noise_multiplier is not None:
            self._check_norm(reply)
        for name, array in {**reply.public, **reply.group}.items():
            self._totals[name] += array
        if reply.units:
            self._statistics += reply.statistics
        self._units += reply.units
        self._variance += reply.noise_deviation**2

    def finish(self, state: TrainingState) -> Means:
        """Adds the noise, then computes everything from the noisy sum.

        Raises:
            ValueError: delta is too large for the units there are; nothing was published.
        """
        how, bound = self._how, self._bound
        check_delta(how.delta, self._units if how.noise_multiplier is not None else None)
        if how.noise_multiplier is not None:
            deviation = how.noise_multiplier * bound.clipping_norm
            source = how.make_source(self._round)
            for name, total in self._totals.items():
                self._totals[name] = total + source.gaussian(total.shape, deviation)
            self._statistics += source.gaussian(self._statistics.shape, deviation)
            self._variance = deviation**2
        expected_units = how.sampling_rate * self._units
        self._loads, clipped = bound.shares(self._statistics, expected_units)
        if self._loads is not None:
            state.loads = self._loads.ravel().tolist()
        self._privacy = {
            "clipping_norm": bound.clipping_norm,
            "clipped_share": clipped,
            "signal_to_noise": self._signal_to_noise(),
            "epsilon": self._epsilon,
        }
        if clipped is not None and how.adaptation_rate > 0.0:
            state.clipping_norm = bound.next_clipping_norm(
                clipped, how.quantile, how.adaptation_rate
            )
        if expected_units <= 0.0:
            return {}
        means = {
            name: total / (expected_units * how.weight_of(name))
            for name, total in self._totals.items()
        }
        alike = np.ones((bound.num_layers, bound.num_experts))  # who chose what stays hidden
        return pool_experts(means, alike, how.expert_pooling)

    def report(self, server_round: int, traffic: Traffic) -> RoundReport:
        """Expected and noisy numbers only."""
        loads = self._loads
        return RoundReport(
            round=server_round,
            users=round(self._how.sampling_rate * self._units),
            targets=0,
            dropped_users=0,
            train_loss=None,
            loads=[] if loads is None else loads.tolist(),
            load_entropy=None if loads is None else float(load_entropy(loads)),
            churn=None,
            traffic=traffic,
            privacy=self._privacy,
        )

    def _check_norm(self, reply: PrivateReply) -> None:
        """A node's sum cannot be longer than its users allow; statistics are part of it."""
        squares = [float(np.square(a, dtype=np.float64).sum()) for a in reply.arrays()]
        norm, most = math.sqrt(sum(squares)), reply.units * self._bound.clipping_norm
        require(
            norm <= most * (1.0 + 1e-4),
            f"the sum of {reply.units} users clipped to {self._bound.clipping_norm:g} "
            f"has norm {norm:g}",
        )

    def _signal_to_noise(self) -> float | None:
        """Norm of the summed update over that of its noise, estimated from their noisy sum."""
        numbers = sum(total.size for total in self._totals.values())
        noise = self._variance * numbers
        if noise <= 0.0:
            return None
        seen = sum(float(np.square(total).sum()) for total in self._totals.values())
        return math.sqrt(max(seen - noise, 0.0) / noise)

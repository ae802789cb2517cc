"""What the private mechanisms share: one bounded vector per unit, and sums that hold noise.

A node's sums have the same arrays, shapes and sizes whoever took part and whatever they did: every
public array, every expert of every layer, the statistics, and numbers that are public anyway. No
loss, no counts, no times. The server divides by a number that does not depend on who was drawn or
what anybody chose.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrff.config import ConfigError, RunConfig
from mrff.metrics.routes import load_entropy
from mrff.privacy.accounting import Limit, Release, check_delta
from mrff.privacy.mechanisms.base import Means, ModelShapes, Needs, Released, Shape
from mrff.privacy.mechanisms.clipping import STATISTICS, Bound, ClippedUsers
from mrff.privacy.mechanisms.settings import private_conflicts, whole_user_conflicts
from mrff.privacy.noise import NoiseSource, is_predictable
from mrff.privacy.noised_evaluation import NoisyTest
from mrff.privacy.noised_items import NoisyItems
from mrff.privacy.spending import WHOLE_DATASET, as_made, planned, server_ledger, spend_on_node
from mrff.sums import CohortSums, Expected, NodeView, Quantity, ServerView, Tensors, require
from mrff.sums.cohort_sums import as_numbers
from mrff.sums.expected import require_arrays
from mrff_model.scopes import network_name

ADAPTED_QUANTILE, ADAPTATION_RATE = 0.5, 0.2  # Andrew et al. 2021: the median, geometrically


class NoisedClient:
    """What a node does alike in all private modes; see `ClientHalf`.

    Args:
        release: what a round releases of each user who takes part, or may be drawn.
    """

    needs: Needs = "each_user"

    def __init__(self, view: NodeView, release: Release) -> None:
        self.view, self.config, self._release = view, view.config, release
        privacy = view.config.privacy
        self.moves_private = privacy.private_training != "frozen"
        norm, shape = view.terms["clipping-norm"], view.config.routes_shape
        self.bound = Bound(norm, privacy.route_share, *shape, release.norm_order)

    def admit(self) -> NDArray[np.bool_]:
        """The users whose coin says so; what it costs them is noted before anything is computed.

        A crash then counts too much, never too little.
        """
        drawn = self.view.drawn()
        if drawn.any():
            spend_on_node(self.view, self.view.user_keys[drawn], self._release)
        return drawn

    def trained(self, names: list[str]) -> list[str]:
        """Those without a prefix in ``privacy.frozen-shared``."""
        prefixes = self.config.privacy.frozen_prefixes
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ConfigError(
                    f"privacy.frozen-shared: no shared parameter begins with {prefix!r}; "
                    f"there are {', '.join(names[:5])}, ..."
                )
        trained = [name for name in names if not name.startswith(prefixes)]
        if not trained:
            raise ConfigError("privacy.frozen-shared freezes everything; leave something to train")
        return trained

    def begin(self, shared: Tensors) -> ClippedUsers:
        weights = {name: self.config.privacy.clipping_weight(name) for name in shared}
        return ClippedUsers(shared, self.bound, weights)

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """The sums of users who took part; a node without any sends no arrays and no noise."""
        return self.released(sums, units=int(admitted.sum()), deviation=0.0)

    def released(self, sums: CohortSums, *, units: int, deviation: float) -> CohortSums:
        """The sums with the numbers that are public.

        Args:
            deviation: of the noise in every number of the updates.
        """
        numbers = {"units": units, "noise_variance": deviation**2 if units else 0.0}
        return CohortSums(sums.updates if units else {}, as_numbers(numbers))

    def source(self, purpose: str) -> NoiseSource:
        """A stream of its own for ``purpose`` in this round of this node."""
        return NoiseSource(purpose=f"node, round {self.view.round_number}, {purpose}")


class NoisedServer:
    """What the server does alike in all private modes; see `ServerHalf`."""

    hides_routes = True
    test: type[NoisyTest] = NoisyTest
    sums_of_items: type[NoisyItems] | None = None  # None: they cannot be had

    def __init__(self, view: ServerView, release: Release) -> None:
        self.view, self.config, self._release = view, view.config, release
        self.noisy_test = self.test(view.config)
        self.noisy_items = noisy_items(self.sums_of_items, view.config)
        once = [self.noisy_test.release] if view.config.tests else []
        planned(view, release, [*once, *([self.noisy_items.release] if self.noisy_items else [])])
        unit = view.config.privacy.unit
        self._ledger = server_ledger(view.ledger_folder, view.population, unit)
        self._norm = self.config.privacy.clipping_norm
        self._epsilon: float | None = None

    def terms(self, server_round: int, clipping_norm: float) -> dict[str, float]:
        """What to clip to, after the cost was noted."""
        self._norm = clipping_norm or self.config.privacy.clipping_norm
        self._epsilon = self.spend(server_round)
        return {"clipping-norm": self._norm}

    def spend(self, server_round: int, limit: Limit | None = None) -> float | None:
        """Notes a round, each time it is tried; epsilon with it, None: nodes keep the budgets."""
        self._note(self._release, server_round, limit)
        return None

    def spend_test(self, server_round: int, limit: Limit | None = None) -> None:
        """Notes the test, each time it is tried."""
        self._note(self.noisy_test.release, server_round, limit)

    def spend_items(self, limit: Limit | None = None) -> None:
        """Notes the sum of items, each time it is asked for; it comes before round 1."""
        assert self.noisy_items is not None
        self._note(self.noisy_items.release, 0, limit)

    def release_items(self, sums: CohortSums) -> CohortSums:
        """Nodes have added the noise."""
        return sums

    def _note(self, release: Release, server_round: int, limit: Limit | None) -> None:
        about = {"training": self.view.training, "round": server_round}
        self._ledger.append(WHOLE_DATASET, as_made(release), about, limit)

    def release_test(self, sums: CohortSums) -> CohortSums:
        """Nodes have added the noise."""
        return self.noisy_test.measured(sums)

    def expected(self, shapes: ModelShapes) -> Expected:
        """A node without units sends no arrays."""
        updates = self.trained(shapes)
        updates[STATISTICS] = (self._bound(shapes).num_statistics,)
        numbers = {"units": Quantity(whole=True), "noise_variance": Quantity()}
        return Expected(updates, numbers, frozenset(updates))

    def trained(self, shapes: ModelShapes) -> dict[str, Shape]:
        """The arrays that are not frozen."""
        prefixes = self.config.privacy.frozen_prefixes
        return {
            name: shape
            for name, shape in {**shapes.public, **shapes.group}.items()
            if not network_name(name).startswith(prefixes)
        }

    def check(self, sums: CohortSums, expected: Expected) -> None:
        units = sums.number("units")
        require_arrays(sums.updates.keys(), expected.updates.keys() if units else set())
        variance = sums.number("noise_variance")
        require(units > 0 or variance == 0.0, "there is noise without units")

    def release(self, sums: CohortSums, server_round: int, shapes: ModelShapes) -> Released:
        """Everything is computed from the noisy sum.

        Raises:
            ValueError: delta is too large for the units there are; nothing was published.
        """
        check_delta(self.config.privacy.delta)
        return self.divided(sums, sums.number("units"), shapes)

    def divided(self, sums: CohortSums, units: float, shapes: ModelShapes) -> Released:
        """Means and shares of a noisy sum over ``units``, or as many as were expected."""
        bound, privacy = self._bound(shapes), self.config.privacy
        updates = {name: array for name, array in sums.updates.items() if name != STATISTICS}
        statistics = sums.updates.get(STATISTICS, np.zeros(bound.num_statistics))
        loads, clipped = bound.shares(statistics, units)
        next_norm = bound.clipping_norm
        if clipped is not None and privacy.adaptive_clipping:
            next_norm = bound.next_clipping_norm(clipped, ADAPTED_QUANTILE, ADAPTATION_RATE)
        means: Means = {}
        if units > 0.0:
            means = {
                name: total / (units * privacy.clipping_weight(network_name(name)))
                for name, total in updates.items()
            }
        return Released(
            means=means,
            weights=np.ones(shapes.routes_shape),  # who chose what stays hidden
            loads=loads,
            facts={
                "users": round(units),
                "targets": 0,
                "dropped_users": 0,
                "train_loss": math.nan,
                "load_entropy": math.nan if loads is None else load_entropy(loads),
                "churn": math.nan,
            },
            privacy={
                "clipping_norm": bound.clipping_norm,
                "clipped_share": clipped,
                "signal_to_noise": _signal_to_noise(updates, sums.number("noise_variance")),
                "epsilon": self._epsilon,
                **({"predictable_noise": 1.0} if is_predictable() else {}),
            },
            next_clipping_norm=next_norm,
        )

    def _bound(self, shapes: ModelShapes) -> Bound:
        share, order = self.config.privacy.route_share, self._release.norm_order
        return Bound(self._norm, share, *shapes.routes_shape, order)


class NoisedMechanism(ABC):
    """See `Mechanism`; what most private modes promise: users are clipped, nodes add the noise."""

    name: str
    hides_routes = True
    not_trusted = "the server and everyone after it"
    covers = "everything a node uploads in training"
    client_half: type[NoisedClient]
    server_half: type[NoisedServer] = NoisedServer

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from private_conflicts(config)
        yield from whole_user_conflicts(config.privacy)

    @abstractmethod
    def release(self, config: RunConfig) -> Release:
        """See `Mechanism.release`."""

    def client(self, view: NodeView) -> NoisedClient:
        return self.client_half(view, self.release(view.config))

    def evaluated(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """Each node adds the noise to its own."""
        test = NoisyTest(view.config)
        if len(view.user_keys):
            spend_on_node(view, view.user_keys, test.release)
        source = NoiseSource(purpose=f"node, test of round {view.round_number}")
        return test.noised(test.vector(sums), source)

    def items(self, config: RunConfig) -> NoisyItems | None:
        return noisy_items(self.server_half.sums_of_items, config)

    def counted(self, view: NodeView, sums: CohortSums) -> CohortSums:
        raise ConfigError(f"privacy.mode={self.name} has no sums of items")

    def server(self, view: ServerView) -> NoisedServer:
        return self.server_half(view, self.release(view.config))


def noisy_items(kind: type[NoisyItems] | None, config: RunConfig) -> NoisyItems | None:
    """Of a run that reads item statistics."""
    return kind(config) if kind and config.reads_item_statistics else None


def _signal_to_noise(updates: Means, variance: float) -> float | None:
    """Norm of the summed update over that of its noise, estimated from their noisy sum."""
    noise = variance * sum(total.size for total in updates.values())
    if noise <= 0.0:
        return None
    seen = sum(float(np.square(total).sum()) for total in updates.values())
    return math.sqrt(max(seen - noise, 0.0) / noise)

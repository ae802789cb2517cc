"""Mechanism ``none``: exact sums. Private parameters never leave a node in any mode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from mrff.config import ConfigError, RunConfig
from mrff.metrics.metric import ratio
from mrff.metrics.routes import (
    check_routes,
    churn,
    load_entropy,
    load_shares,
    route_counts,
    route_quantities,
)
from mrff.privacy.accounting import Release
from mrff.privacy.mechanisms.base import Means, ModelShapes, Needs, Released, named_outside
from mrff.privacy.spending import own_budget
from mrff.sums import Chunk, CohortSums, Expected, NodeView, Quantity, ServerView, Tensors, require
from mrff.sums.cohort_sums import as_numbers, zeros_of
from mrff.sums.expected import require_arrays
from mrff_model.scopes import expert_of, has_expert, is_expert
from mrff_model.shared import Network

_ROUNDING = 1.0 + 1e-5


class NoMechanism:
    """Each user's weighted update, and what a round is reported by, added up as they are."""

    name = "none"
    hides_routes = False
    not_trusted = ""
    covers = ""

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        yield from ()

    def release(self, config: RunConfig) -> Release | None:
        return None

    def client(self, view: NodeView) -> PlainClient:
        return PlainClient(view)

    def evaluated(self, view: NodeView, sums: CohortSums) -> CohortSums:
        refuse_own_budget(view, view.config.privacy.mode)
        return sums

    def items(self, config: RunConfig) -> None:
        return None

    def counted(self, view: NodeView, sums: CohortSums) -> CohortSums:
        return sums

    def server(self, view: ServerView) -> PlainServer:
        return PlainServer(view.config.server.max_update_norm or 0.0)


class PlainClient:
    """See `ClientHalf`."""

    needs: Needs = "sum"
    moves_private = True

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def admit(self) -> NDArray[np.bool_]:
        refuse_own_budget(self._view, self._view.config.privacy.mode)
        return self._view.drawn()

    def trained(self, names: list[str]) -> list[str]:
        return names

    def begin(self, shared: Tensors) -> PlainSum:
        return PlainSum(shared)

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """As they are; a node whose users were not drawn says so by zeros."""
        return zeros_of(training_quantities(self._view.config.routes_shape)) + sums


class PlainSum:
    """See `Accumulator`. Exact running sums; nobody's update is held longer than their chunk."""

    def __init__(self, shared: Tensors) -> None:
        self._updates = {n: torch.zeros_like(v, dtype=torch.float64) for n, v in shared.items()}
        self._sums = CohortSums()

    def accumulate(self, chunk: Chunk) -> None:
        outcome, kept = chunk.outcome, chunk.outcome.finite.cpu().numpy()
        if not kept.any():
            return
        assert outcome.update is not None
        for name, update in outcome.update.items():
            self._updates[name] += update
        routes, visited = (t.cpu().numpy()[kept] for t in (outcome.routes, outcome.visited))
        weights = chunk.weights[kept]
        numbers = {
            **route_counts(chunk.before[kept], routes, visited.shape[-1]),
            "users": int(kept.sum()),
            "targets": int(chunk.targets[kept].sum()),
            "weight": float(weights.sum()),
            "expert_weight": np.einsum("u,ulk->lk", weights, visited),
            "loss": float(outcome.bce[outcome.finite].double().sum()),
        }
        self._sums += CohortSums({}, as_numbers(numbers))

    def sums(self, network: Network) -> CohortSums:
        """An expert that nobody chose is absent."""
        total = self._sums
        if not total.number("users"):
            return total
        chosen, named = total.numbers["expert_weight"] > 0.0, named_outside(network, self._updates)
        updates = {n: v for n, v in named.items() if not is_expert(n) or chosen[expert_of(n)]}
        return CohortSums(updates, total.numbers)


class PlainServer:
    """See `ServerHalf`. Exact means: public over all users, each expert over those who chose it.

    Args:
        most_norm: the largest L2 norm of a node's mean update, over the public arrays and over each
            expert of each layer; 0: any. It bounds how far one node can pull a round: by its share
            of the users times this.
    """

    hides_routes = False
    noisy_test = noisy_items = None

    def __init__(self, most_norm: float = 0.0) -> None:
        self._most_norm = most_norm

    def terms(self, server_round: int, clipping_norm: float) -> dict[str, float]:
        return {}

    def spend_test(self, server_round: int) -> None:
        """Nothing is promised."""

    def release_test(self, sums: CohortSums) -> CohortSums:
        return sums

    def spend_items(self) -> None:
        """As `spend_test`."""

    def release_items(self, sums: CohortSums) -> CohortSums:
        return sums

    def expected(self, shapes: ModelShapes) -> Expected:
        """A node without users sends no arrays."""
        updates = {**shapes.public, **shapes.group}
        return Expected(updates, training_quantities(shapes.routes_shape), frozenset(updates))

    def check(self, sums: CohortSums, expected: Expected) -> None:
        reason = check_routes(sums)
        require(not reason, reason)
        _check_weights(sums)
        chosen, trained = sums.numbers["expert_weight"] > 0.0, sums.number("users") > 0
        names = expected.updates
        wanted = {n for n in names if (chosen[expert_of(n)] if has_expert(n) else trained)}
        there = {n for n in sums.updates if n in wanted or sums.updates[n].any()}  # 0 is no array
        require_arrays(there, wanted)
        if self._most_norm > 0.0 and trained:
            self._check_norms(sums)

    def release(self, sums: CohortSums, server_round: int, shapes: ModelShapes) -> Released:
        numbers, users = sums.numbers, sums.number("users")
        expert_weight = numbers["expert_weight"]
        weights = {
            name: expert_weight[expert_of(name)] if has_expert(name) else sums.number("weight")
            for name in sums.updates
        }
        means: Means = {n: total / weights[n] for n, total in sums.updates.items() if weights[n]}
        return Released(
            means=means,
            weights=expert_weight,
            loads=load_shares(numbers["expert_users"]) if users else None,
            facts={
                "users": users,
                "targets": sums.number("targets"),
                "dropped_users": sums.number("dropped"),
                "train_loss": ratio(sums.number("loss"), sums.number("targets")),
                "load_entropy": load_entropy(numbers["expert_users"]),
                "churn": churn(sums),
            },
        )

    def _check_norms(self, sums: CohortSums) -> None:
        squares: dict[str, float] = {}
        weights = {"public": sums.number("weight")}
        for name, array in sums.updates.items():
            part = "public"
            if has_expert(name):
                layer, expert = expert_of(name)
                part = f"expert {expert} of layer {layer}"
                weights[part] = float(sums.numbers["expert_weight"][layer, expert])
            square = float(np.square(array, dtype=np.float64).sum())
            squares[part] = squares.get(part, 0.0) + square
        for part, square in squares.items():
            norm = float(np.sqrt(square)) / weights[part]
            require(
                norm <= self._most_norm,
                f"{part}: the mean update has norm {norm:.3g}, more than max-update-norm="
                f"{self._most_norm:g}",
            )


def training_quantities(routes_shape: tuple[int, int]) -> dict[str, Quantity]:
    """The numbers of a plain training round."""
    counts = dict.fromkeys(("users", "targets", "dropped"), Quantity(whole=True))
    amounts = {
        "weight": Quantity(),
        "loss": Quantity(),  # summed BCE over the targets, first local step
        "expert_weight": Quantity(routes_shape),
    }
    return {**counts, **amounts, **route_quantities(routes_shape)}


def refuse_own_budget(view: NodeView, mode: str) -> None:
    """A node that limits what it gives away sends nothing that the server sees without noise.

    Raises:
        ConfigError: the node has an epsilon-budget of its own, or one that cannot be read.
    """
    if own_budget(view):
        raise ConfigError(
            f"this node has an epsilon-budget of its own, and in privacy.mode={mode} the server "
            "would see its updates without noise: use local-dp-sgd, laplace or distributed-user, "
            "or start the node without epsilon-budget"
        )


def _check_weights(sums: CohortSums) -> None:
    weight, users, targets = (sums.number(name) for name in ("weight", "users", "targets"))
    by_expert, of_experts = sums.numbers["expert_weight"], sums.numbers["expert_users"]
    require((weight > 0.0) == (users > 0), f"weight {weight:g} does not go with users {users}")
    # A user counts for one, or for so many targets; who has none, as all rows of one time may leave
    # somebody, counts for one beside the others' targets.
    require(
        weight <= (users + targets) * _ROUNDING,
        f"weight {weight:g} is more than {users} users with {targets} targets can have",
    )
    require(
        not bool(((of_experts > 0) & (by_expert <= 0.0)).any()),
        "expert_users names an expert without expert_weight",
    )
    # With several local steps a user may train several experts of a layer, each with full weight.
    require(
        bool((by_expert.sum(axis=1) * _ROUNDING >= weight).all())
        and bool((by_expert <= weight * _ROUNDING).all()),
        "expert_weight is above weight, or below it in the sum of a layer",
    )

"""Checks of every reply before it counts; what passes comes out typed, what does not is named.

A node may be broken, outdated or hostile: a reply that is not exactly what was asked for is
rejected as a whole with a reason, and the round goes on with the others. A reply can still lie
within these bounds; they keep out what would corrupt the arithmetic, not a clever poisoner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from mrff_model.packing import PACKED, unpack
from mrff_model.scopes import expert_of, network_name
from strategies.aggregation import Arrays

Shape = tuple[int, ...]


class BadReplyError(ValueError):
    """A reply that must not count; the message is the reason."""


@dataclass(frozen=True)
class Expected:
    """What replies must look like: array shapes by name, layers with experts, K."""

    public: Mapping[str, Shape]
    group: Mapping[str, Shape]
    num_layers: int
    num_experts: int

    @classmethod
    def of(
        cls, public: Arrays, group: Arrays, routes_shape: tuple[int, int] | None = None
    ) -> Expected:
        """Reads the shapes off the model; ``group`` holds every expert of every layer.

        Args:
            routes_shape: layers and experts, where experts are not in ``group`` since they are
                private.
        """
        if routes_shape is not None and not group:
            layers, experts = routes_shape
            return cls({n: a.shape for n, a in public.items()}, {}, layers, experts)
        places = [expert_of(name) for name in group]
        return cls(
            public={name: array.shape for name, array in public.items()},
            group={name: array.shape for name, array in group.items()},
            num_layers=1 + max((layer for layer, _ in places), default=-1),
            num_experts=1 + max((expert for _, expert in places), default=-1),
        )

    def without(self, prefixes: tuple[str, ...]) -> Expected:
        """The same without the arrays whose names in the network begin with ``prefixes``."""
        public, group = (
            {n: shape for n, shape in shapes.items() if not network_name(n).startswith(prefixes)}
            for shapes in (self.public, self.group)
        )
        return replace(self, public=public, group=group)


@dataclass(frozen=True)
class TrainReply:
    """A node's sums over the users it trained. ``expert_*`` are (layers, K)."""

    num_users: int
    num_targets: int
    weight: float
    expert_weight: NDArray[np.float64]
    expert_users: NDArray[np.int64]
    loss_sum: float
    changed_users: int
    compared_users: int
    dropped_users: int
    public: Arrays
    group: Arrays


@dataclass(frozen=True)
class EvaluateReply:
    """A node's sums over the users it evaluated: (bins,) histograms, (layers, K) users."""

    num_users: int
    num_targets: int
    log_loss_sum: float
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    gauc_sum: float
    gauc_users: int
    expert_users: NDArray[np.int64]
    changed_users: int
    compared_users: int
    skipped_users: int


def read_train_reply(content: RecordDict, expected: Expected, server_round: int) -> TrainReply:
    """The reply to a train message.

    Raises:
        BadReplyError: it is not what round ``server_round`` asked for.
    """
    no_other_records(content, {"public", "group", "metrics"})
    metrics = Metrics(content, server_round)
    layers, experts = expected.num_layers, expected.num_experts
    reply = TrainReply(
        num_users=metrics.count("num-users"),
        num_targets=metrics.count("num-targets"),
        weight=metrics.number("weight"),
        expert_weight=metrics.numbers("expert-weight", layers * experts).reshape(layers, experts),
        expert_users=metrics.counts("expert-users", layers * experts).reshape(layers, experts),
        loss_sum=metrics.number("loss-sum"),
        changed_users=metrics.count("changed-users"),
        compared_users=metrics.count("compared-users"),
        dropped_users=metrics.count("dropped-users"),
        public=arrays_in(content, "public"),
        group=arrays_in(content, "group"),
    )
    _check_users(reply.num_users, reply.compared_users, reply.changed_users, reply.expert_users)
    _check_weights(reply)
    chosen = reply.expert_weight > 0.0
    check_arrays("public", reply.public, expected.public if reply.num_users else {})
    wanted = {name: shape for name, shape in expected.group.items() if chosen[expert_of(name)]}
    check_arrays("group", reply.group, wanted)
    return reply


def read_evaluate_reply(
    content: RecordDict,
    expected: Expected,
    server_round: int,
    *,
    bins: int,
    routes_are_hidden: bool = False,
) -> EvaluateReply:
    """The reply to an evaluate message.

    Args:
        routes_are_hidden: a private mode: no count may tell a user's route.

    Raises:
        BadReplyError: it is not what the evaluation after ``server_round`` asked for.
    """
    no_other_records(content, {"metrics"})
    metrics = Metrics(content, server_round)
    layers, experts = expected.num_layers, expected.num_experts
    reply = EvaluateReply(
        num_users=metrics.count("num-users"),
        num_targets=metrics.count("num-targets"),
        log_loss_sum=metrics.number("log-loss-sum"),
        positives=metrics.counts("positives", bins),
        negatives=metrics.counts("negatives", bins),
        gauc_sum=metrics.number("gauc-sum"),
        gauc_users=metrics.count("gauc-users"),
        expert_users=metrics.counts("expert-users", layers * experts).reshape(layers, experts),
        changed_users=metrics.count("changed-users"),
        compared_users=metrics.count("compared-users"),
        skipped_users=metrics.count("skipped-users"),
    )
    if routes_are_hidden:
        told = reply.compared_users + reply.changed_users + int(reply.expert_users.sum())
        require(told == 0, "it tells routes, which a private mode hides")
    else:
        _check_users(reply.num_users, reply.compared_users, reply.changed_users, reply.expert_users)
    counted = int(reply.positives.sum() + reply.negatives.sum())
    require(
        counted == reply.num_targets,
        f"histograms count {counted} targets, num-targets is {reply.num_targets}",
    )
    require(
        reply.gauc_users <= reply.num_users and reply.gauc_sum <= reply.gauc_users * (1 + 1e-6),
        f"gauc-sum {reply.gauc_sum:g} over gauc-users {reply.gauc_users} "
        f"of num-users {reply.num_users} is impossible",
    )
    return reply


class Metrics:
    """A reply's metric record, read with checks."""

    def __init__(self, content: RecordDict, server_round: int) -> None:
        record = content.get("metrics")
        if not isinstance(record, MetricRecord):
            raise BadReplyError("the record 'metrics' is missing")
        self._record = record
        found = self.count("round")
        require(found == server_round, f"it answers round {found}, asked was {server_round}")

    def only(self, keys: frozenset[str]) -> None:
        """Refuses any other metric."""
        extra = self._record.keys() - keys
        require(not extra, f"the metric {min(extra, default='')!r} was not expected")

    def count(self, key: str) -> int:
        """A whole number of at least 0."""
        value = self._get(key)
        if not isinstance(value, int) or value < 0:
            raise BadReplyError(f"{key} must be a whole number of at least 0, got {value!r}")
        return value

    def number(self, key: str) -> float:
        value = self._get(key)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise BadReplyError(f"{key} must be a finite number of at least 0, got {value!r}")
        return float(value)

    def counts(self, key: str, length: int) -> NDArray[np.int64]:
        values = np.array(self._list(key, length) or np.zeros(0, np.int64))
        if values.dtype != np.int64 or not ((values >= 0) & (values < 2**53)).all():
            raise BadReplyError(f"{key} must hold whole numbers of at least 0")
        return values

    def numbers(self, key: str, length: int) -> NDArray[np.float64]:
        values = np.array(self._list(key, length), dtype=np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise BadReplyError(f"{key} must hold finite numbers of at least 0")
        return values

    def _list(self, key: str, length: int) -> list[int] | list[float]:
        values = self._get(key)
        if not isinstance(values, list) or len(values) != length:
            size = len(values) if isinstance(values, list) else "no list"
            raise BadReplyError(f"{key} must hold {length} numbers, got {size}")
        return values

    def _get(self, key: str) -> int | float | list[int] | list[float]:
        if key not in self._record:
            raise BadReplyError(f"the metric {key} is missing")
        return self._record[key]


def arrays_in(content: RecordDict, key: str) -> Arrays:
    """The arrays packed into the record ``key``; none if it is missing.

    Raises:
        BadReplyError: it holds anything else.
    """
    record = content.get(key)
    if record is None:
        return {}
    if not isinstance(record, ArrayRecord) or record.keys() != {PACKED}:
        raise BadReplyError(f"the record {key!r} must hold the packed array {PACKED!r} alone")
    try:
        return unpack(record[PACKED].data)
    except ValueError as error:
        raise BadReplyError(f"the record {key!r} cannot be read: {error}") from error


def check_arrays(record: str, arrays: Arrays, wanted: Mapping[str, Shape]) -> None:
    """Exactly the wanted arrays, float32 and finite."""
    missing, extra = wanted.keys() - arrays.keys(), arrays.keys() - wanted.keys()
    require(not missing, f"{record} lacks the array {min(missing, default='')}")
    require(not extra, f"{record} has the array {min(extra, default='')}, which was not expected")
    for name, array in arrays.items():
        require(array.dtype == np.float32, f"array {name} must be float32, got {array.dtype}")
        require(
            array.shape == wanted[name],
            f"array {name} must have shape {wanted[name]}, got {array.shape}",
        )
        require(bool(np.isfinite(array).all()), f"array {name} holds non-finite values")


def _check_weights(reply: TrainReply) -> None:
    require(
        (reply.weight > 0.0) == (reply.num_users > 0),
        f"weight {reply.weight:g} does not go with num-users {reply.num_users}",
    )
    require(
        not bool(((reply.expert_users > 0) & (reply.expert_weight <= 0.0)).any()),
        "expert-users names an expert without expert-weight",
    )
    # With several local steps a user may train several experts of a layer, each with full weight.
    most = reply.weight * (1.0 + 1e-5)
    require(
        bool((reply.expert_weight.sum(axis=1) * (1.0 + 1e-5) >= reply.weight).all())
        and bool((reply.expert_weight <= most).all()),
        "expert-weight is above weight, or below it in the sum of a layer",
    )


def _check_users(users: int, compared: int, changed: int, expert_users: NDArray[np.int64]) -> None:
    require(
        changed <= compared <= users,
        f"changed-users {changed}, compared-users {compared}, num-users {users} "
        "must not decrease in this order",
    )
    require(
        bool((expert_users.sum(axis=1) == users).all()),
        f"expert-users does not add up to num-users {users} in every layer",
    )


def no_other_records(content: RecordDict, known: set[str]) -> None:
    """No record beside the known ones."""
    extra = content.keys() - known
    require(not extra, f"the record {min(extra, default='')!r} was not expected")


def require(holds: bool, reason: str) -> None:
    """Rejects the reply for ``reason`` unless the condition holds."""
    if not holds:
        raise BadReplyError(reason)

"""Train and evaluate replies made by hand: one layer of two experts, one public array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Result

from mrff.metrics import Evaluation
from mrff.metrics.metric import Grain
from mrff.privacy.mechanisms.base import ModelShapes
from mrff.privacy.mechanisms.none import PlainServer
from mrff.sums import Expected
from mrff.wire.aggregation import Asked
from mrff.wire.records import array_record, packed_record
from strategies.model_step import ModelStep
from strategies.mrff import MRFF
from strategies.schedule import Conduct
from strategies.server_optimizer import ServerOptimizer
from strategies.state import TrainingState
from tests.support.flower_internals import as_reply
from tests.support.local_grid import FIRST_NODE_ID, LocalGrid

PUBLIC = "head.output.weight"
EXPERTS = 2
BINS = 16
TARGETS = 10  # of a user; no weight is above it


def expert(k: int) -> str:
    return f"layers.0.experts.{k}.up_weight"


def new_state() -> TrainingState:
    return TrainingState(
        public={PUBLIC: np.array([1.0, 2.0, 3.0], np.float32)},
        group={expert(k): np.array([10.0 * (k + 1), 0.5], np.float32) for k in range(EXPERTS)},
    )


def model_shapes() -> ModelShapes:
    state = new_state()
    public, group = ({n: a.shape for n, a in part.items()} for part in (state.public, state.group))
    return ModelShapes(public, group, (1, EXPERTS))


def expected() -> Expected:
    """Of a train reply."""
    return PlainServer().expected(model_shapes())


def asked(server_round: int = 1, *, min_fraction: float = 0.5) -> Asked:
    """A training round in mode none."""
    server, wanted = PlainServer(), expected()
    phase = f"training round {server_round}"
    return Asked(phase, server_round, wanted, lambda s: server.check(s, wanted), min_fraction)


def evaluation(experts: int = EXPERTS) -> Evaluation:
    return Evaluation(Grain(BINS, (1, experts), holdout=1))


def strategy_of(
    optimizer: ServerOptimizer,
    state: TrainingState | None = None,
    *,
    conduct: Conduct | None = None,
    pooling: float = 0.0,
    experts: int = EXPERTS,
) -> MRFF:
    """The strategy in mode none, with everything else as a run's defaults have it."""
    step = ModelStep(optimizer, expert_pooling=pooling)
    return MRFF(state or new_state(), step, PlainServer(), evaluation(experts), conduct)


def train(strategy: MRFF, *nodes: list[User], rounds: int = 1) -> Result:
    """Runs the strategy on nodes with these users, who say the same in every round."""

    def client(message: Message, context: Context) -> Message:
        number = int(message.metadata.group_id)
        if message.metadata.message_type == "train":
            users = nodes[context.node_id - FIRST_NODE_ID]
            return Message(train_content(users, number), reply_to=message)
        return Message(evaluate_content(number), reply_to=message)

    grid = LocalGrid(client, len(nodes))
    return strategy.start(grid, array_record(strategy.state.public), num_rounds=rounds)


@dataclass(frozen=True)
class User:
    """One user's update of the public array and of the expert they chose."""

    weight: float
    public: np.ndarray
    expert: int
    group: np.ndarray
    loss: float = 0.5


# Two alike, on one expert: their mean adds 1 to everything they move.
USERS = [User(1.0, np.ones(3), 0, np.ones(2)), User(1.0, np.ones(3), 0, np.ones(2))]


def train_content(users: list[User], server_round: int = 1) -> RecordDict:
    """What a node with these users uploads: sums in float32, as clients compute them."""
    weights, counts = [0.0] * EXPERTS, [0] * EXPERTS
    group: dict[str, np.ndarray] = {}
    public = np.zeros(len(users[0].public) if users else 3)
    for user in users:
        weights[user.expert] += user.weight
        counts[user.expert] += 1
        public = public + user.weight * user.public
        name = expert(user.expert)
        group[name] = group.get(name, np.zeros(2)) + user.weight * user.group
    numbers: dict[str, Any] = {
        "round": server_round,
        "users": len(users),
        "targets": TARGETS * len(users),
        "weight": float(sum(weights)),
        "expert_weight": weights,
        "expert_users": counts,
        "loss": sum(TARGETS * user.loss for user in users),
        "changed": 0,
        "compared": 0,
        "dropped": 0,
    }
    content = RecordDict({"numbers": MetricRecord(numbers)})
    if users:
        content["updates"] = record({PUBLIC: public, **group})
    return content


def evaluate_content(server_round: int = 1, **changes: Any) -> RecordDict:
    """A node with two users: a positive in bin 12 and a negative in bin 3."""
    positives, negatives = [0] * BINS, [0] * BINS
    positives[12], negatives[3] = 1, 1
    numbers: dict[str, Any] = {
        "round": server_round,
        "users": 2,
        "targets": 2,
        "log_loss_sum": 0.8,
        "positives": positives,
        "negatives": negatives,
        "gauc_sum": 0.0,
        "gauc_users": 0,
        "expert_users": [1, 1],
        "changed": 1,
        "compared": 2,
        "skipped": 0,
    }
    return RecordDict({"numbers": MetricRecord(numbers | changes)})


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    """As a node sends them."""
    return packed_record({n: np.asarray(a, dtype=np.float32) for n, a in arrays.items()})


def message(content: RecordDict, node: int = 5) -> Message:
    """``content`` as the reply of a node."""
    return as_reply(content, node)

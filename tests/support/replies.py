"""Train and evaluate replies made by hand: one layer of two experts, one public array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from strategies.messages import packed_record
from strategies.replies import Expected
from strategies.state import TrainingState

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


def expected() -> Expected:
    state = new_state()
    return Expected.of(state.public, state.group)


@dataclass(frozen=True)
class User:
    """One user's update of the public array and of the expert he chose."""

    weight: float
    public: np.ndarray
    expert: int
    group: np.ndarray
    loss: float = 0.5


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
    metrics: dict[str, Any] = {
        "round": server_round,
        "num-users": len(users),
        "num-targets": TARGETS * len(users),
        "weight": float(sum(weights)),
        "expert-weight": weights,
        "expert-users": counts,
        "loss-sum": sum(TARGETS * user.loss for user in users),
        "changed-users": 0,
        "compared-users": 0,
        "dropped-users": 0,
        "seconds": 0.1,
    }
    content = RecordDict({"metrics": MetricRecord(metrics)})
    if users:
        content["public"] = record({PUBLIC: public})
        content["group"] = record(group)
    return content


def evaluate_content(server_round: int = 1, **changes: Any) -> RecordDict:
    """A node with two users: a positive in bin 12 and a negative in bin 3."""
    positives, negatives = [0] * BINS, [0] * BINS
    positives[12], negatives[3] = 1, 1
    metrics: dict[str, Any] = {
        "round": server_round,
        "num-users": 2,
        "num-targets": 2,
        "log-loss-sum": 0.8,
        "positives": positives,
        "negatives": negatives,
        "gauc-sum": 0.0,
        "gauc-users": 0,
        "expert-users": [1, 1],
        "changed-users": 1,
        "compared-users": 2,
        "skipped-users": 0,
        "seconds": 0.1,
    }
    return RecordDict({"metrics": MetricRecord(metrics | changes)})


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    """As a node sends them."""
    return packed_record({n: np.asarray(a, dtype=np.float32) for n, a in arrays.items()})


def message(content: RecordDict, node: int = 5) -> Message:
    """``content`` as the reply of a node."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    request = Message(RecordDict(), dst_node_id=node, message_type="train")
    request.metadata.__dict__["_message_id"] = f"to-{node}"
    return Message(content, reply_to=request)

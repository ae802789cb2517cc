"""What a node does in a round: train or evaluate its users and put the sums into records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import Tensor

from client_app.evaluation import Part, scorer_named, sum_scores
from client_app.node import Node
from client_app.randomness import sampled_users
from client_app.training import Cohort, Start, Tensors, trainer_named
from mrff_config import ConfigError
from mrff_model.building import load_shared


def train_round(node: Node, content: RecordDict) -> RecordDict:
    """Trains the users sampled for this round and keeps their private parameters.

    Args:
        content: records ``public``, ``group`` and ``round`` (DESIGN 4).

    Returns:
        Records ``public`` and ``group`` (sums, absent if nobody was sampled), ``metrics``, and
        ``validation`` of the model that came, if the request says ``validate``.
    """
    if node.config.privacy.is_private:
        from client_app.privacy import train_privately

        return train_privately(node, content)
    began = time.perf_counter()
    request = content.config_records["round"]
    number = _integer(request, "round")
    training = node.config.training
    validation = _validated(node, content) if request.get("validate", False) else None
    sampled = sampled_users(training.seed, number, node.user_keys, training.sampling_rate)
    cohort, before = open_cohort(node, node.users[sampled], up_to_round=number - 1)
    start = Start(
        round_number=number,
        public=tensors_in(content, "public"),
        group=tensors_in(content, "group"),
        loads=loads_in(node, request),
    )
    train = trainer_named(training.trainer)
    trained = train(node.network, start, cohort, data=node.config.data, training=training)

    kept = trained.kept
    node.store.save(
        cohort.dataset.user_keys[cohort.users[kept]],
        _rows(trained.private, kept),
        trained.routes[kept],
        round_number=number,
        checkpoint_round=_integer(request, "checkpoint-round"),
        best_round=_integer(request, "best-round"),
    )
    changed, compared = _changes(before[kept], trained.routes[kept])
    metrics: dict[str, Any] = {
        "round": number,
        "num-users": int(kept.sum()),
        "num-targets": trained.num_targets,
        "weight": trained.weight,
        "expert-weight": trained.expert_weight.ravel().tolist(),
        "expert-users": trained.expert_users.ravel().tolist(),
        "loss-sum": trained.loss_sum,
        "changed-users": changed,
        "compared-users": compared,
        "dropped-users": int((~kept).sum()),
        "seconds": time.perf_counter() - began,
    }
    reply = RecordDict({"metrics": MetricRecord(metrics)})
    if kept.any():
        reply["public"] = array_record(trained.public)
        reply["group"] = array_record(trained.group)
    if validation is not None:
        reply["validation"] = validation
    return reply


def evaluate_round(node: Node, content: RecordDict) -> RecordDict:
    """Scores the node's users on the request's ``split`` with the versions of its ``round``."""
    began = time.perf_counter()
    request = content.config_records["round"]
    number, part = _integer(request, "round"), _part(request)
    load_shared(node.network, tensors_in(content, "public"), tensors_in(content, "group"))
    cohort, before = open_cohort(node, node.users, up_to_round=number)
    metrics: dict[str, Any] = {"round": number, "num-users": 0, "num-targets": 0}
    shape = (len(node.network.layers), node.network.num_experts)
    experts = np.zeros(shape, dtype=np.int64)
    bins = node.config.evaluation.histogram_bins
    routes_leave = not node.config.privacy.is_private
    if len(cohort.users):
        score = scorer_named(node.config.training.trainer)
        scores = score(node.network, cohort, data=node.config.data, part=part)
        sums = sum_scores(scores, bins)
        changed, compared = 0, 0
        if routes_leave:
            for layer, routes in enumerate(scores.routes.T):
                experts[layer] = np.bincount(routes, minlength=shape[1])
            changed, compared = _changes(before, scores.routes)
        metrics |= {
            "num-users": sums.num_users,
            "num-targets": sums.num_targets,
            "log-loss-sum": sums.log_loss_sum,
            "positives": sums.positives.tolist(),
            "negatives": sums.negatives.tolist(),
            "gauc-sum": sums.gauc_sum,
            "gauc-users": sums.gauc_users,
            "changed-users": changed,
            "compared-users": compared,
        }
    else:
        metrics |= {"log-loss-sum": 0.0, "positives": [0] * bins, "negatives": [0] * bins}
        metrics |= {"gauc-sum": 0.0, "gauc-users": 0, "changed-users": 0, "compared-users": 0}
    metrics |= {
        "expert-users": experts.ravel().tolist(),
        "skipped-users": node.dataset.num_users - len(node.users),
        "seconds": time.perf_counter() - began,
    }
    return RecordDict({"metrics": MetricRecord(metrics)})


def _validated(node: Node, content: RecordDict) -> MetricRecord:
    """The validation of the model that this round starts from: that of the round before."""
    request = ConfigRecord(dict(content.config_records["round"]))
    request["round"], request["split"] = _integer(request, "round") - 1, "valid"
    asked = RecordDict({**content, "round": request})
    return evaluate_round(node, asked).metric_records["metrics"]


def open_cohort(node: Node, users: np.ndarray, *, up_to_round: int) -> tuple[Cohort, np.ndarray]:
    """The users with their private parameters, and their routes when those were stored."""
    private, routes = node.store.load(
        node.dataset.user_keys[users],
        up_to_round=up_to_round,
        initial=node.initial_private,
        num_layers=len(node.network.layers),
    )
    return Cohort(node.dataset, users, private), routes


def _rows(private: Tensors, kept: np.ndarray) -> Tensors:
    """The rows that are kept; without a copy when that is all of them, as nearly always."""
    if kept.all():
        return private
    return {name: rows[torch.from_numpy(kept)] for name, rows in private.items()}


def _changes(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """How many users changed an expert in some layer, of how many whose routes were known."""
    known = (before >= 0).all(axis=1)
    return int((before[known] != after[known]).any(axis=1).sum()), int(known.sum())


def tensors_in(content: RecordDict, name: str) -> dict[str, Tensor]:
    """Copies of the request's arrays ``name``."""
    if name not in content.array_records:
        raise ConfigError(f"the request has no {name!r} arrays; is the server of the same version?")
    arrays = content.array_records[name]
    return {key: torch.from_numpy(array.numpy().copy()) for key, array in arrays.items()}


def array_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Tensors as Flower carries them."""
    return ArrayRecord({name: Array(value.numpy()) for name, value in tensors.items()})


def loads_in(node: Node, request: Mapping[str, Any]) -> Tensor | None:
    """(layers, K) load shares of the round before; None while they are unknown."""
    loads = list(request["loads"])
    if not loads:
        return None
    shape = (len(node.network.layers), node.network.num_experts)
    if len(loads) != shape[0] * shape[1]:
        raise ConfigError(f"loads must have {shape[0]} x {shape[1]} numbers, got {len(loads)}")
    return torch.tensor(loads, dtype=torch.float32).view(shape)


def _part(request: Mapping[str, Any]) -> Part:
    part = request["split"]
    if part not in ("valid", "test"):
        raise ConfigError(f"split must be valid or test, got {part!r}")
    return cast("Part", part)


def _integer(request: Mapping[str, Any], key: str) -> int:
    return int(request[key])

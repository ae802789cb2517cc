"""What a node does in a round: train or evaluate its users and put the sums into records.

Users are taken in groups, so that the private parameters of a node with very many users never lie
in memory all at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from torch import Tensor

from client_app.evaluation import Part, Scores, scorer_named, sum_scores
from client_app.kept_scores import keep_scores
from client_app.node import Node
from client_app.randomness import sampled_users
from client_app.totals import EvaluationTotals, TrainTotals
from client_app.training import Cohort, Start, Tensors, trainer_named
from mrff.config import ConfigError
from mrff_model.building import load_shared
from mrff_model.packing import PACKED, unpack


def train_round(node: Node, content: RecordDict) -> RecordDict:
    """Trains the users sampled for this round and keeps their private parameters.

    Args:
        content: records ``public``, ``group`` and ``round`` (DESIGN 4).

    Returns:
        Records ``public`` and ``group`` (sums, absent if nobody was sampled), ``metrics``, and
        ``validation`` of the model that came, if the request says ``validate``.
    """
    _check_own_limits(node)
    if node.config.privacy.is_private:
        from client_app.privacy import train_privately

        return train_privately(node, content)
    began = time.perf_counter()
    request = content.config_records["round"]
    number = _integer(request, "round")
    training = node.config.training
    validation = _validated(node, content) if request.get("validate", False) else None
    start = Start(
        round_number=number,
        public=tensors_in(content, "public"),
        group=tensors_in(content, "group"),
        loads=loads_in(node, request),
    )
    train = trainer_named(training.trainer, clusters=node.config.network.clusters)
    totals = TrainTotals(*node.routes_shape)
    sampled = sampled_users(training.seed, number, node.user_keys, training.sampling_rate)
    for users in _groups(node, node.users[sampled]):
        cohort, before = open_cohort(node, users, up_to_round=number - 1)
        trained = train(node.network, start, cohort, data=node.config.data, training=training)
        kept = trained.kept
        node.store.save(
            cohort.dataset.user_keys[users[kept]],
            _rows(trained.private, kept),
            trained.routes[kept],
            round_number=number,
            checkpoint_round=_integer(request, "checkpoint-round"),
            best_round=_integer(request, "best-round"),
        )
        totals.add(trained, before)
    reply = totals.reply(number, time.perf_counter() - began)
    if validation is not None:
        reply["validation"] = validation
    return reply


def evaluate_round(node: Node, content: RecordDict) -> RecordDict:
    """Scores the node's users on the request's ``split`` with the versions of its ``round``."""
    began = time.perf_counter()
    request = content.config_records["round"]
    number, part = _integer(request, "round"), _part(request)
    score = _scorer(node, content, part)
    bins = node.config.evaluation.histogram_bins
    totals = EvaluationTotals(*node.routes_shape, bins)
    keeps = part == "test" and node.config.evaluation.keep_test_scores
    kept: list[Scores] = []
    for users in _groups(node, node.users):
        cohort, before = open_cohort(node, users, up_to_round=number)
        scores = score(cohort)
        totals.add(sum_scores(scores, bins))
        if keeps:
            kept.append(scores)
        if not node.config.privacy.is_private:  # there, routes do not leave the node
            totals.add_routes(before, scores.routes)
    if kept:
        keep_scores(node.store.folder, node.user_keys, kept)
    skipped = node.dataset.num_users - len(node.users)
    return totals.reply(number, skipped_users=skipped, seconds=time.perf_counter() - began)


def _validated(node: Node, content: RecordDict) -> MetricRecord:
    """The validation of the model that this round starts from: that of the round before."""
    request = ConfigRecord(dict(content.config_records["round"]))
    request["round"], request["split"] = _integer(request, "round") - 1, "valid"
    asked = RecordDict({**content, "round": request})
    return evaluate_round(node, asked).metric_records["metrics"]


def _scorer(node: Node, content: RecordDict, part: Part) -> Callable[[Cohort], Scores]:
    """What scores a cohort by the shared model in the request."""
    public, group = tensors_in(content, "public"), tensors_in(content, "group")
    score, data = scorer_named(node.config.training.trainer), node.config.data
    if node.config.network.clusters:
        from client_app.clusters import score_clusters

        return partial(score_clusters, score, node.network, group, data=data, part=part)
    load_shared(node.network, public, group)
    return partial(score, node.network, data=data, part=part)


def open_cohort(node: Node, users: np.ndarray, *, up_to_round: int) -> tuple[Cohort, np.ndarray]:
    """The users with their private parameters, and their routes when those were stored."""
    private, routes = node.store.load(
        node.dataset.user_keys[users],
        up_to_round=up_to_round,
        initial=node.initial_private,
        num_layers=node.routes_shape[0],
    )
    return Cohort(node.dataset, users, private), routes


def users_at_once(node: Node) -> int:
    """How many users' private parameters may lie in memory: ``cohort-memory-mb`` holds four sets.

    Four, because they are read, copied, changed and written.
    """
    numbers = sum(value.numel() for value in node.initial_private.values())
    budget = node.config.training.cohort_memory_mb * 2**20
    return max(1, budget // (4 * 4 * max(numbers, 1)))


def tensors_in(content: RecordDict, name: str) -> dict[str, Tensor]:
    """Copies of the request's arrays ``name``.

    Raises:
        ConfigError: there are none, or not as this version packs them.
    """
    record = content.array_records.get(name)
    if record is None or PACKED not in record:
        raise ConfigError(f"the request has no {name!r} arrays; is the server of the same version?")
    return {key: torch.from_numpy(array) for key, array in unpack(record[PACKED].data).items()}


def loads_in(node: Node, request: Mapping[str, Any]) -> Tensor | None:
    """(layers, K) load shares of the round before; None while they are unknown."""
    loads = list(request["loads"])
    if not loads:
        return None
    shape = node.routes_shape
    if len(loads) != shape[0] * shape[1]:
        raise ConfigError(f"loads must have {shape[0]} x {shape[1]} numbers, got {len(loads)}")
    return torch.tensor(loads, dtype=torch.float32).view(shape)


def _check_own_limits(node: Node) -> None:
    """A node that limits what it gives away sends nothing that the server sees without noise."""
    mode = node.config.privacy.privacy_mode
    if float(node.limits.get("epsilon-budget", 0.0)) > 0.0 and mode in ("none", "central-user"):
        raise ConfigError(
            f"this node has an epsilon-budget of its own, and in privacy-mode={mode} the server "
            "would see its updates without noise: use local-dp-sgd or laplace, or start the node "
            "without epsilon-budget"
        )


def _groups(node: Node, users: np.ndarray) -> Iterator[np.ndarray]:
    """The users in the order of the dataset, as many at once as memory allows."""
    size = users_at_once(node)
    for first in range(0, len(users), size):
        yield users[first : first + size]


def _rows(private: Tensors, kept: np.ndarray) -> Tensors:
    """The rows that are kept; without a copy when that is all of them, as nearly always."""
    if kept.all():
        return private
    return {name: rows[torch.from_numpy(kept)] for name, rows in private.items()}


def _part(request: Mapping[str, Any]) -> Part:
    part = request["split"]
    if part not in ("valid", "test"):
        raise ConfigError(f"split must be valid or test, got {part!r}")
    return cast("Part", part)


def _integer(request: Mapping[str, Any], key: str) -> int:
    return int(request[key])

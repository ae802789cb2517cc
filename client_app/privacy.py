"""A training round under a privacy mode: who takes part, what it costs, what is uploaded.

The upload has the same arrays, shapes and sizes whoever took part and whatever they did: every
public array, every expert of every layer, the statistics, and numbers that are public anyway. No
loss, no counts, no times (DESIGN 6, rules 1 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import MetricRecord, RecordDict
from torch import Tensor

from client_app.node import Node
from client_app.privacy_ledger import NodeLedger
from client_app.privacy_updates import train_whole_users
from client_app.privacy_upload import PrivateRound, Upload
from client_app.randomness import sampled_users
from client_app.rounds import loads_in, open_cohort, tensors_in
from client_app.totals import packed_record
from client_app.training import Start
from mrff.config import ConfigError, PrivacySettings
from mrff.privacy.accounting import Release
from mrff.privacy.bound import Bound
from mrff.privacy.ledger import Limit
from mrff.privacy.noise import NoiseSource
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import split_bank

Mechanism = Callable[[MRFFNetwork, PrivateRound], Upload]


def train_privately(node: Node, content: RecordDict) -> RecordDict:
    """Answers a train message in a private mode.

    Raises:
        BudgetExceededError: a user's budget does not allow the round; nothing was computed.
        LedgerError: the ledger cannot be trusted or written.
    """
    request: Mapping[str, Any] = content.config_records["round"]
    number, privacy = int(request["round"]), node.config.privacy
    taking_part = _taking_part(node, number)
    # Whether a user was drawn is secret in central-user; in the other modes everyone may know.
    units = len(node.users) if privacy.privacy_mode == "central-user" else int(taking_part.sum())
    if not units:
        return _reply(number, 0)
    if (release := release_of(privacy, node.config.training.local_steps)) is not None:
        # Noted before anything is computed: a crash counts too much, never too little.
        _ledger(node).spend(
            node.user_keys[taking_part],
            release,
            training=str(request["training-id"]),
            round_number=number,
        )
    cohort, _ = open_cohort(node, node.users[taking_part], up_to_round=number - 1)
    task = PrivateRound(
        start=Start(
            round_number=number,
            public=tensors_in(content, "public"),
            group=tensors_in(content, "group"),
            loads=loads_in(node, request),
        ),
        cohort=cohort,
        data=node.config.data,
        training=node.config.training,
        privacy=privacy,
        bound=_bound(node, float(request["clipping-norm"])),
    )
    upload = mechanism_named(privacy.privacy_mode)(node.network, task)
    if privacy.own_parameters != "frozen":
        kept = upload.kept
        node.store.save(
            cohort.dataset.user_keys[cohort.users[kept]],
            {name: rows[torch.from_numpy(kept)] for name, rows in upload.private.items()},
            upload.routes[kept],
            round_number=number,
            checkpoint_round=int(request["checkpoint-round"]),
            best_round=int(request["best-round"]),
        )
    return upload_reply(node.network, number, units, upload)


def upload_reply(network: MRFFNetwork, number: int, units: int, upload: Upload) -> RecordDict:
    """What leaves the node: every array that is trained, the statistics, public numbers."""
    reply = _reply(number, units, upload.noise_deviation)
    bank = tensors_of(network, "group").keys()
    shared = {name: value.float().contiguous() for name, value in upload.shared.items()}
    reply["public"] = packed_record({n: v for n, v in shared.items() if n not in bank})
    reply["group"] = packed_record(split_bank({n: v for n, v in shared.items() if n in bank}))
    statistics = torch.from_numpy(upload.statistics.astype(np.float32))
    reply["statistics"] = packed_record({"statistics": statistics})
    return reply


def release_of(privacy: PrivacySettings, local_steps: int) -> Release | None:
    """What a round releases of each user who takes part; None where the server adds the noise."""
    if privacy.privacy_mode == "local-dp-sgd":
        return Release(privacy.noise_multiplier, privacy.record_sampling_rate, local_steps)
    if privacy.privacy_mode == "laplace":
        return Release(privacy.noise_multiplier, mechanism="laplace")
    return None


def mechanism_named(mode: str) -> Mechanism:
    """The mechanism of a private mode."""
    if mode == "local-dp-sgd":
        from client_app.privacy_sgd import train_dp_sgd  # brings Opacus

        return train_dp_sgd
    return {"central-user": train_whole_users, "laplace": _train_with_laplace}[mode]


def _train_with_laplace(network: MRFFNetwork, task: PrivateRound) -> Upload:
    """Whole users in the L1 norm; each user's vector carries Laplace noise of its own."""
    exact = train_whole_users(network, task)
    scale = task.privacy.noise_multiplier * task.bound.clipping_norm
    keys = task.cohort.dataset.user_keys[task.cohort.users]
    arrays = {**exact.shared, "": torch.from_numpy(exact.statistics)}
    if task.privacy.noise_is_secret:
        sources = [(task.source("laplace"), len(keys))]
    else:  # one stream per user: the sum is the same on any layout of users over nodes
        sources = [(task.source(f"laplace of user {key}"), 1) for key in keys]
    noisy = {name: _plus_laplace(value, scale, sources) for name, value in arrays.items()}
    statistics = noisy.pop("").numpy()
    return Upload(
        shared=noisy,
        statistics=statistics,
        private=exact.private,
        routes=exact.routes,
        kept=exact.kept,
        noise_deviation=scale * float(np.sqrt(2.0 * len(keys))),
    )


def _plus_laplace(exact: Tensor, scale: float, sources: list[tuple[NoiseSource, int]]) -> Tensor:
    total = exact.double().numpy().copy()
    for source, users in sources:
        total += source.laplace_sums(total.shape, scale, users)
    return torch.from_numpy(total)


def _taking_part(node: Node, number: int) -> np.ndarray:
    """(U,) booleans: which of the node's users train in this round.

    In central-user mode the draw is part of the guarantee: nobody may be able to repeat it.
    """
    training, privacy = node.config.training, node.config.privacy
    if privacy.privacy_mode == "central-user" and privacy.noise_is_secret:
        return NoiseSource().coins(len(node.users), training.sampling_rate)
    return sampled_users(training.seed, number, node.user_keys, training.sampling_rate)


def _bound(node: Node, clipping_norm: float) -> Bound:
    privacy, network = node.config.privacy, node.network
    return Bound(
        clipping_norm,
        privacy.route_share,
        len(network.layers),
        network.num_experts,
        order=1 if privacy.privacy_mode == "laplace" else 2,
    )


def _ledger(node: Node) -> NodeLedger:
    """The node's own limits win over the run's: a server cannot raise them."""
    privacy = node.config.privacy
    budget, delta = privacy.epsilon_budget, privacy.delta
    own_budget, own_delta = (float(node.limits.get(k, 0.0)) for k in ("epsilon-budget", "delta"))
    if own_budget > 0.0:
        budget = min(own_budget, budget) if budget > 0.0 else own_budget
    if own_delta > 0.0:
        delta = min(own_delta, delta)
    if not privacy.noise_is_secret and own_budget > 0.0:
        raise ConfigError(
            "noise-seed makes the noise predictable, and this node has an epsilon-budget of its "
            "own: it takes part in runs with noise-seed=-1 only"
        )
    limit = Limit(budget, delta, "rdp" if privacy.accountant == "rdp" else "prv")
    dataset = node.dataset.schema.content_hash or node.dataset.schema.schema_hash
    return NodeLedger(node.ledger_folder, dataset, limit)


def _reply(number: int, units: int, noise_deviation: float = 0.0) -> RecordDict:
    metrics: dict[str, Any] = {
        "round": number,
        "units": units,
        "noise-deviation": float(noise_deviation),
    }
    return RecordDict({"metrics": MetricRecord(metrics)})

"""A training whose every release is watched where canaries would show.

It is the training of a run without the messages: one node (`mrff.experiments.audits.nodes`), the
aggregation, noise and ledger of `server_app.privacy`, the server optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.own_copies import changes_of_each
from client_app.training import Start, Tensors, dropout_keys, training_batch
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.experiments.audits.canaries import Planted
from mrff.experiments.audits.nodes import NoNoise, PlainNode, PrivateNode, WatchedNode
from mrff_model.building import build_network, initial_shared, load_shared, tensors_of
from mrff_model.network import MRFFNetwork
from server_app.model_steps import learning_rates_of, optimizer_of
from server_app.privacy import make_aggregation
from strategies.pooling import Means
from strategies.privacy import PrivateAggregation
from strategies.replies import Expected
from strategies.round_sums import Aggregation
from strategies.server_optimizer import apply_means
from strategies.state import TrainingState


@dataclass(frozen=True)
class ReleasedRows:
    """The canaries' rows, round by round: what was released, and where each one would push.

    Args:
        released: (rounds, m, d) of the released mean updates.
        directions: (rounds, m, d) of unit length, of each canary's own update.
        moved: (m, d) final minus initial rows of the model.
    """

    released: NDArray[np.float64]
    directions: NDArray[np.float64]
    moved: NDArray[np.float64]

    def scores_of_rounds(self) -> NDArray[np.float64]:
        """(m,) how far the releases went where the canary would have pushed."""
        scores: NDArray[np.float64] = np.einsum("rmd,rmd->m", self.released, self.directions)
        return scores

    def scores_of_model(self) -> NDArray[np.float64]:
        """(m,) the same for the final model alone."""
        scores: NDArray[np.float64] = np.einsum("md,rmd->m", self.moved, self.directions)
        return scores


def train_and_watch(
    config: RunConfig, planted: Planted, included: NDArray[np.bool_], *, noise: bool
) -> ReleasedRows:
    """Trains on the real users and the ``included`` canaries (m,).

    Args:
        noise: False: a private mode forgets its noise.
    """
    dataset = planted.dataset
    network = build_network(
        item_features=dataset.schema.item_features,
        item_codes=dataset.item_features,
        user_features=dataset.schema.user_features if config.network.user_features else (),
        **config.network_arguments(),
    )
    public, group = initial_shared(network, experts_alike=config.pools_experts)
    state = TrainingState(public=public, group=group)
    begin = public[planted.table][planted.items].astype(np.float64)
    initial_own = {
        name: value.expand(len(planted.users), *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    present = np.concatenate([np.arange(planted.users[0]), planted.users[included]])
    aggregation, node = _federation(config, dataset, network, present, noise=noise)
    released, directions = [], []
    for number in range(1, config.server.num_server_rounds + 1):
        start = _start_of(state, network, number)
        directions.append(_directions(config, network, planted, start, initial_own))
        request = aggregation.prepare(number, state)
        sums = aggregation.begin(number, Expected.of(state.public, state.group), state)
        sums.read(node.answer(start, request))
        means = sums.finish(state)
        table = means.get(planted.table)  # without privacy nobody drawn is nothing released
        released.append(np.zeros_like(begin) if table is None else table[planted.items])
        _move(config, state, means, number)
    return ReleasedRows(
        released=np.array(released),
        directions=np.array(directions),
        moved=state.public[planted.table][planted.items] - begin,
    )


def _federation(
    config: RunConfig, dataset: Dataset, network: MRFFNetwork, present: np.ndarray, *, noise: bool
) -> tuple[Aggregation, WatchedNode]:
    """The server's part of a round, and the node's."""
    aggregation = make_aggregation(config, dataset.schema, "audit")
    if not isinstance(aggregation, PrivateAggregation):
        return aggregation, PlainNode(config, dataset, network, present)
    if not noise:
        aggregation = replace(aggregation, make_source=lambda server_round: NoNoise())
    return aggregation, PrivateNode(config, dataset, network, present, noise=noise)


def _start_of(state: TrainingState, network: MRFFNetwork, number: int) -> Start:
    loads = None
    if state.loads:
        loads = torch.tensor(state.loads, dtype=torch.float32).view(len(network.layers), -1)
    public, group = (
        {name: torch.from_numpy(array.copy()) for name, array in part.items()}
        for part in (state.public, state.group)
    )
    return Start(number, public, group, loads)


def _directions(
    config: RunConfig,
    network: MRFFNetwork,
    planted: Planted,
    start: Start,
    own: Mapping[str, torch.Tensor],
) -> NDArray[np.float64]:
    """(m, d) where each canary would push his row from ``start``."""
    load_shared(network, start.public, start.group)
    shared: Tensors = {**tensors_of(network, "public"), **tensors_of(network, "group")}
    dataset, training = planted.dataset, config.training
    changes = changes_of_each(
        network,
        shared,
        dict(own),
        training_batch(dataset, planted.users, config.data),
        dropout_keys=[
            dropout_keys(training.seed, start.round_number, dataset.user_keys[planted.users], step)
            for step in range(training.local_steps)
        ],
        loads=start.loads,
        training=training,
    )
    table = shared[planted.table]
    update = changes.update[planted.table].view(len(planted.users), *table.shape)
    at = torch.arange(len(planted.users))
    rows = update[at, torch.from_numpy(planted.items)].double().numpy()
    unit: NDArray[np.float64] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), 1e-30
    )
    return unit


def _move(config: RunConfig, state: TrainingState, means: Means, number: int) -> None:
    rates = learning_rates_of(config.server)
    moved, state.optimizer = apply_means(
        optimizer_of(config.server),
        {**state.public, **state.group},
        means,
        state.optimizer,
        factor_of=lambda name: rates.factor(name, number),
    )
    state.public = {name: moved[name] for name in state.public}
    state.group = {name: moved[name] for name in state.group}

"""A private training whose every release is watched where canaries would show.

It is the training of a run without the messages: the mechanisms of `client_app.privacy`, one
node, the aggregation, noise and ledger of `server_app.privacy`, the server optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.own_copies import changes_of_each
from client_app.privacy import mechanism_named, upload_reply
from client_app.privacy_upload import PrivateRound
from client_app.randomness import sampled_users
from client_app.training import Cohort, Start, Tensors, dropout_keys, training_batch
from mrff_cli.privacy_canaries import Planted
from mrff_config import RunConfig
from mrff_model.building import build_network, initial_shared, load_shared, tensors_of
from mrff_model.network import MRFFNetwork
from mrff_privacy.bound import Bound
from mrff_privacy.noise import Floats, NoiseSource
from server_app.privacy import make_aggregation
from strategies.privacy import PrivateAggregation
from strategies.replies import Expected
from strategies.server_optimizer import apply_means, make_server_optimizer
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


class NoNoise(NoiseSource):
    """The bug to be found: coins as ever, but no noise."""

    def gaussian(self, shape: tuple[int, ...], deviation: float) -> Floats:
        """Zeros."""
        return np.zeros(shape)

    def laplace_sums(self, shape: tuple[int, ...], scale: float, count: int) -> Floats:
        """Zeros."""
        return np.zeros(shape)


class _NoiselessRound(PrivateRound):
    def source(self, purpose: str) -> NoiseSource:
        return NoNoise()


def train_and_watch(
    config: RunConfig, planted: Planted, included: NDArray[np.bool_], *, noise: bool
) -> ReleasedRows:
    """Trains on the real users and the ``included`` canaries (m,)."""
    dataset, privacy = planted.dataset, config.privacy
    network = build_network(
        item_features=dataset.schema.item_features,
        item_codes=dataset.item_features,
        user_features=dataset.schema.user_features if config.network.user_features else (),
        **config.network_arguments(),
    )
    aggregation = make_aggregation(config, dataset.schema, "audit")
    assert isinstance(aggregation, PrivateAggregation)
    if not noise:
        aggregation = replace(aggregation, make_source=lambda server_round: NoNoise())
    public, group = initial_shared(network)
    state = TrainingState(public=public, group=group)
    begin = public[planted.table][planted.items].astype(np.float64)
    own = {
        name: value.expand(dataset.num_users, *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    initial_own = {name: rows[planted.users] for name, rows in own.items()}
    present = np.concatenate([np.arange(planted.users[0]), planted.users[included]])
    released, directions = [], []
    for number in range(1, config.server.num_server_rounds + 1):
        start = _start_of(state, network, number)
        directions.append(_directions(config, network, planted, start, initial_own))
        clipping_norm = float(aggregation.prepare(number, state)["clipping-norm"])
        users = present[_taking_part(config, dataset.user_keys[present], number)]
        rows = torch.from_numpy(users)
        make = PrivateRound if noise else _NoiselessRound
        task = make(
            start=start,
            cohort=Cohort(dataset, users, {name: values[rows] for name, values in own.items()}),
            data=config.data,
            training=config.training,
            privacy=privacy,
            bound=Bound(
                clipping_norm, privacy.route_share, len(network.layers), network.num_experts,
                order=1 if privacy.privacy_mode == "laplace" else 2,
            ),
        )  # fmt: skip
        upload = mechanism_named(privacy.privacy_mode)(network, task)
        for name, values in upload.private.items():
            own[name][rows] = values
        central = privacy.privacy_mode == "central-user"
        units = dataset.num_users if central else len(users)
        sums = aggregation.begin(number, Expected.of(state.public, state.group), state)
        sums.read(upload_reply(network, number, units, upload))
        means = sums.finish(state)
        released.append(means[planted.table][planted.items])
        _move(config, state, means)
    return ReleasedRows(
        released=np.array(released),
        directions=np.array(directions),
        moved=state.public[planted.table][planted.items] - begin,
    )


def _taking_part(config: RunConfig, keys: np.ndarray, number: int) -> np.ndarray:
    training = config.training
    if config.privacy.privacy_mode == "central-user":
        return NoiseSource().coins(len(keys), training.sampling_rate)
    return sampled_users(training.seed, number, keys, training.sampling_rate)


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


def _move(config: RunConfig, state: TrainingState, means: dict[str, NDArray[np.float64]]) -> None:
    server = config.server
    optimizer = make_server_optimizer(
        server.server_optimizer,
        learning_rate=server.server_learning_rate,
        momentum=server.server_momentum,
        beta2=server.server_beta2,
        epsilon=server.server_epsilon,
    )
    moved, state.optimizer = apply_means(
        optimizer, {**state.public, **state.group}, means, state.optimizer
    )
    state.public = {name: moved[name] for name in state.public}
    state.group = {name: moved[name] for name in state.group}

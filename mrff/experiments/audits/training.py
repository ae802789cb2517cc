"""A training whose every release is watched where canaries would show.

It is the training of a run without the messages: one node (`mrff.experiments.audits.nodes`), the
mechanism's server half with its noise and ledger, the server's step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners import Cohort, SharedModel
from client_app.learners.base import work_on
from client_app.learners.own_copies import changes_of_each
from mrff.config import RunConfig
from mrff.data.schema import Schema
from mrff.experiments.audits.canaries import Planted
from mrff.experiments.audits.nodes import AuditedNode, forget_noise
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.mechanisms.base import ModelShapes, ServerHalf
from mrff.sums import CohortSums, Tensors
from mrff.wire.replies import Reply
from mrff_model.building import build_network, initial_shared, load_shared, tensors_of
from mrff_model.network import MRFFNetwork
from server_app.parts import model_step, server_view
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
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    public, group = initial_shared(network, experts_alike=config.pools_experts)
    state, step = TrainingState(public=public, group=group), model_step(config)
    shapes = ModelShapes(
        {name: array.shape for name, array in public.items()},
        {name: array.shape for name, array in group.items()},
        config.routes_shape,
    )
    begin = public[planted.table][planted.items].astype(np.float64)
    present = np.concatenate([np.arange(planted.users[0]), planted.users[included]])
    server = _server(config, dataset.schema, noise=noise)
    node = AuditedNode(config, dataset, network, present, noise=noise)
    canaries = _untrained(planted, network, config.routes_shape[0])
    released, directions = [], []
    for number in range(1, config.server.num_server_rounds + 1):
        model = _model_of(state, config.routes_shape, number)
        directions.append(_directions(config, network, planted, (model, canaries)))
        terms = server.terms(number, state.clipping_norm)
        expected = server.expected(shapes)
        answer = Reply(number, node.answer(model, terms)).content()
        sums = CohortSums() + Reply.read(answer, number, expected).sums  # float64, as in a run
        server.check(sums, expected)
        outcome = server.release(sums, number, shapes)
        table = outcome.means.get(planted.table)  # without privacy nobody drawn is nothing released
        released.append(np.zeros_like(begin) if table is None else table[planted.items])
        step.take(state, outcome, number)
    return ReleasedRows(
        released=np.array(released),
        directions=np.array(directions),
        moved=state.public[planted.table][planted.items] - begin,
    )


def _server(config: RunConfig, schema: Schema, *, noise: bool) -> ServerHalf:
    half = mechanism_of(config).server(server_view(config, schema, "audit"))
    if not noise:
        forget_noise(half)
    return half


def _untrained(planted: Planted, network: MRFFNetwork, num_layers: int) -> Cohort:
    """All canaries with the private parameters of a new user."""
    private = {
        name: value.expand(len(planted.users), *value.shape[1:]).clone()
        for name, value in tensors_of(network, "private").items()
    }
    routes = np.full((len(planted.users), num_layers), -1, dtype=np.int64)
    return Cohort(planted.dataset, planted.users, private, routes)


def _model_of(state: TrainingState, shape: tuple[int, int], number: int) -> SharedModel:
    loads = torch.tensor(state.loads, dtype=torch.float32).view(shape) if state.loads else None
    public, group = (
        {name: torch.from_numpy(array.copy()) for name, array in part.items()}
        for part in (state.public, state.group)
    )
    return SharedModel(number, public, group, loads)


def _directions(
    config: RunConfig,
    network: MRFFNetwork,
    planted: Planted,
    start: tuple[SharedModel, Cohort],
) -> NDArray[np.float64]:
    """(m, d) where each canary would push their row from a model and their own parameters."""
    model, canaries = start
    load_shared(network, model.public, model.group)
    shared: Tensors = {**tensors_of(network, "public"), **tensors_of(network, "group")}
    table = shared[planted.table]
    outcome = changes_of_each(network, shared, work_on(model, canaries, config, table))
    assert outcome.changes is not None
    update = outcome.changes[planted.table].view(len(canaries), *table.shape)
    at = torch.arange(len(canaries))
    rows = update[at, torch.from_numpy(planted.items)].double().numpy()
    unit: NDArray[np.float64] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), 1e-30
    )
    return unit

"""A training whose every release is watched where canaries would show.

It is the training of a run without Flower: one node, which answers as ever (`client_app.train`),
the mechanism's server half with its noise and ledger, the server's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners import Cohort, SharedModel
from client_app.learners.base import work_on
from client_app.learners.own_copies import changes_of_each
from client_app.node import Node
from client_app.private_store import PrivateStore
from client_app.train import train_round
from mrff.config import RunConfig
from mrff.experiments.audits.canaries import Planted
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.mechanisms.base import ClientHalf, Mechanism, ModelShapes, ServerHalf
from mrff.privacy.noise import Floats, NoiseSource, Whole
from mrff.sums import CohortSums, NodeView, ServerView, Tensors
from mrff.wire.aggregation import NodeSide
from mrff.wire.aggregation.plain import PlainAggregation
from mrff.wire.replies import Reply
from mrff.wire.requests import Request, RoundFacts, RunFacts
from mrff_model.building import build_network, initial_shared, load_shared, tensors_of
from server_app.parts import model_step, server_view
from strategies.state import TrainingState


class Forgetful:
    """The bug to be found: a mechanism whose halves toss their coins, but draw no noise."""

    def __init__(self, mechanism: Mechanism) -> None:
        self._mechanism = mechanism

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mechanism, name)

    def client(self, view: NodeView) -> ClientHalf:
        """See `Mechanism.client`."""
        return _forgetting(self._mechanism.client(view))

    def server(self, view: ServerView) -> ServerHalf:
        """See `Mechanism.server`."""
        return _forgetting(self._mechanism.server(view))


class _NoNoise(NoiseSource):
    def gaussian(self, shape: tuple[int, ...], deviation: float) -> Floats:
        return np.zeros(shape)

    def laplace_sums(self, shape: tuple[int, ...], scale: float, count: int) -> Floats:
        return np.zeros(shape)

    def skellam(self, shape: tuple[int, ...], variance: int) -> Whole:
        return np.zeros(shape, np.int64)


def _forgetting(half: Any) -> Any:
    half.source = lambda *purpose: _NoNoise()
    return half


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
    node = _node(config, planted, included, noise=noise)
    server = node.mechanism.server(server_view(config, node.dataset.schema, "audit"))
    public, group = initial_shared(node.network, experts_alike=config.pools_experts)
    state, step = TrainingState(public=public, group=group), model_step(config)
    shapes = ModelShapes(
        {name: array.shape for name, array in public.items()},
        {name: array.shape for name, array in group.items()},
        config.routes_shape,
    )
    begin = public[planted.table][planted.items].astype(np.float64)
    canaries = node.cohort(planted.users, up_to_round=0)
    released, directions = [], []
    for number in range(1, config.server.num_server_rounds + 1):
        terms = server.terms(number, state.clipping_norm)
        facts = RoundFacts(number, loads=state.loads, terms=terms)
        request = Request(RunFacts(training_id="audit"), facts, state.public, state.group)
        directions.append(_directions(node, planted, node.model(request), canaries))
        expected = server.expected(shapes)
        answer = train_round(node, request).content()
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


def _node(config: RunConfig, planted: Planted, included: NDArray[np.bool_], *, noise: bool) -> Node:
    """The one node of the federation: of the canaries it holds those who are there."""
    dataset, folder = planted.dataset, Path(config.home) / "audited-node"
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    mechanism = mechanism_of(config)
    users = np.concatenate([np.arange(planted.users[0]), planted.users[included]])
    return Node(
        config=config,
        dataset=dataset,
        users=users,
        tested=users,
        network=network,
        initial_private={n: v.clone() for n, v in tensors_of(network, "private").items()},
        store=PrivateStore(folder / "store"),
        ledger_folder=folder,
        limits={},
        mechanism=mechanism if noise else cast("Mechanism", Forgetful(mechanism)),
        aggregation=PlainAggregation().client(NodeSide(config, {}, folder, folder)),
    )


def _directions(
    node: Node, planted: Planted, model: SharedModel, canaries: Cohort
) -> NDArray[np.float64]:
    """(m, d) where each canary would push their row from a model and their own parameters."""
    network = node.mrff
    load_shared(network, model.public, model.group)
    shared: Tensors = {**tensors_of(network, "public"), **tensors_of(network, "group")}
    table = shared[planted.table]
    outcome = changes_of_each(network, shared, work_on(model, canaries, node.config, table))
    assert outcome.changes is not None
    update = outcome.changes[planted.table].view(len(canaries), *table.shape)
    items = torch.from_numpy(planted.items)
    rows = update[torch.arange(len(canaries)), items].double().numpy()
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))

"""Canaries in the space of updates: users whose update is a random direction, in every round.

Andrew et al., "One-shot Empirical Privacy Estimation for Federated Learning", ICLR 2024. A canary's
update is `LOUD` times the clipping norm long, so that all that clipping lets through is theirs. It
goes through both halves of the mechanism itself: accumulated, clipped, summed, released. Each one
turns their direction around in some of the rounds, by known signs: noise that is used again in
another round then takes itself out of the difference, and the canary does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from client_app.learners.base import trained_parameters
from mrff.config import RunConfig
from mrff.data.dataset import Dataset
from mrff.experiments.audits.training import Forgetful
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.mechanisms.base import ClientHalf, Means, Mechanism, ModelShapes
from mrff.sums import Chunk, CohortSums, NodeView, Outcome, Tensors
from mrff.sums.outcome import visited_experts
from mrff_model.building import build_network, initial_shared, tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import expert_names
from server_app.parts import server_view

LOUD = 10.0
_TOGETHER = 64  # canaries whose directions are in memory at once

Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]


def scores_of_updates(
    config: RunConfig, dataset: Dataset, included: Coins, *, noise: bool
) -> Floats:
    """(m,) how surely all rounds' releases hold each canary; without them about normal.

    Args:
        dataset: what the shared model is made for; nobody in it takes part.
        included: (m,) the canaries' coins.
        noise: False: the mechanism forgets its noise.
    """
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    mechanism = mechanism_of(config)
    if not noise:
        mechanism = cast("Mechanism", Forgetful(mechanism))
    signs = np.random.default_rng(1).choice(
        [-1.0, 1.0], (len(included), config.server.num_server_rounds)
    )
    server = mechanism.server(server_view(config, dataset.schema, "audit"))
    public, group = initial_shared(network)
    shapes = ModelShapes(
        {name: array.shape for name, array in public.items()},
        {name: array.shape for name, array in group.items()},
        config.routes_shape,
    )
    weighted: list[Floats] = []
    norm, shared = 0.0, Tensors()
    for number, of_round in enumerate(signs.T, start=1):
        terms = server.terms(number, norm)
        client = mechanism.client(_view(config, dataset, len(included), number, terms))
        shared = trained_parameters(network, client)
        expected = server.expected(shapes)
        lengths = LOUD * terms["clipping-norm"] * of_round * included
        sums = _contributed(config, client, network, shared, lengths)
        for name, step in expected.steps.items():  # what a secure sum hands the server
            sums.updates[name] = sums.updates[name] * step
        server.check(sums, expected)
        outcome = server.release(sums, number, shapes)
        norm = outcome.next_clipping_norm
        weighted.append(_flat(config, network, shared, outcome.means))
    return _scores(np.array(weighted), signs)


def _view(
    config: RunConfig, dataset: Dataset, canaries: int, number: int, terms: dict[str, float]
) -> NodeView:
    """The one node there is: its users are all canaries; who is not there adds nothing."""
    return NodeView(
        config=config,
        user_keys=np.arange(canaries, dtype=np.uint64),
        population=dataset.schema.known_as,
        ledger_folder=config.home / "audited-node",
        limits={},
        training="audit",
        round_number=number,
        terms=terms,
    )


def _directions(canaries: int, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Unit directions (B, size) of some canaries after others, the same whenever they are drawn."""
    for first in range(0, canaries, _TOGETHER):
        rows = slice(first, min(first + _TOGETHER, canaries))
        random = np.random.default_rng((2, first))
        drawn = random.standard_normal((rows.stop - first, size), dtype=np.float32)
        yield rows, drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _contributed(
    config: RunConfig, client: ClientHalf, network: MRFFNetwork, shared: Tensors, lengths: Floats
) -> CohortSums:
    """What the node sends when each canary's update is their length (m,) times their direction.

    A length of 0: the canary is not there. An array with a clipping weight gets that much less, so
    that what is clipped points into the canary's direction.
    """
    admitted = client.admit()
    drawn = lengths * admitted
    total, sizes = client.begin(shared), [value.numel() for value in shared.values()]
    for rows, directions in _directions(len(drawn), sum(sizes)):
        there, weight = drawn[rows] != 0.0, config.privacy.clipping_weight
        if there.any():
            own = torch.from_numpy(directions[there] * drawn[rows][there, None].astype(np.float32))
            parts = zip(shared, own.split(sizes, dim=1), strict=True)
            changes = {name: part / weight(name) for name, part in parts}
            total.accumulate(_chunk(changes, len(own), config.routes_shape))
    return client.release_node(total.sums(network), admitted)


def _chunk(changes: Tensors, users: int, routes_shape: tuple[int, int]) -> Chunk:
    routes, one = torch.zeros(users, routes_shape[0], dtype=torch.int64), np.ones(users)
    visited, finite = visited_experts(routes, routes_shape[1]), torch.ones(users, dtype=torch.bool)
    outcome = Outcome(None, changes, {}, routes, visited, torch.zeros(users), finite)
    return Chunk(outcome, one, one, routes.numpy())


def _flat(config: RunConfig, network: MRFFNetwork, shared: Tensors, means: Means) -> Floats:
    """(d,) the released means in the order of directions, weighted as they were clipped."""
    banks = tensors_of(network, "group")
    names = {n: expert_names(n, len(v)) if n in banks else [n] for n, v in shared.items()}
    return np.concatenate(
        [
            means[own].ravel() * config.privacy.clipping_weight(name)
            for name, outside in names.items()
            for own in outside
        ]
    )


def _scores(released: Floats, signs: Floats) -> Floats:
    """(m,) from all rounds (T, d), weighed so that noise they have in common cancels (Capon 1969).

    With S the covariance of rounds, s a canary's signs and y what rounds hold of their direction:
    s' S^-1 y / sqrt(s' S^-1 s), of variance 1 without the canary whatever the noise.
    """
    covariance = released @ released.T / released.shape[1]
    covariance += 1e-12 * np.trace(covariance) * np.eye(len(released))
    weights = np.linalg.solve(covariance, signs.T).T
    held = np.concatenate(
        [part @ released.T for _, part in _directions(len(signs), released.shape[1])]
    )
    scores: Floats = (weights * held).sum(axis=1) / np.sqrt((weights * signs).sum(axis=1))
    return scores

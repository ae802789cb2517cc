"""What users' own experts bring: a test by them, and one by the same expert for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from client_app.kept_scores import KeptScores
from client_app.learners.cohort import CohortLearner
from client_app.node import Node
from mrff.data.windows import eligible_users
from mrff.experiments.comparison.bootstrap import Difference, paired_difference, resampled
from mrff.experiments.comparison.measures import TESTED, Weighted, restricted
from mrff.linear import Mixture
from mrff.metrics.metric import Ranks, Scored
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork
from strategies.linear_phase import TESTED as RANKED_BY

RESAMPLES, CONFIDENCE = 400, 0.95


@dataclass(frozen=True)
class UserGroups:
    """U users of all nodes."""

    keys: np.ndarray  # (U,) uint64
    routes: np.ndarray  # (U, layers) int64
    effect: Effect | None
    tested: KeptScores | None  # ranks by each of `strategies.linear_phase.TESTED`, or one


@dataclass(frozen=True)
class Effect:
    """A measure of the test with users' own experts, and how far it is above one for everybody."""

    label: str
    own: float
    gain: Difference  # with an interval of 95 % over users
    sides: tuple[Weighted, Weighted]  # the measure by users' weights: with own experts, with one

    def within(self, inside: np.ndarray) -> Difference:
        """The gain of the users ``inside`` (U,) alone."""
        return _compared(self.sides, inside.astype(np.float64))[1]


def routed(
    nodes: Sequence[Node], best_round: int, mixture: Mixture | None = None
) -> UserGroups | None:
    """Scores every user with the best model, twice; None: there is nobody.

    Args:
        nodes: of one run, which share a network that holds the best shared model.
        mixture: linear models to rank by beside the network.
    """
    own = [_scored(node, best_round, mixture) for node in nodes if len(_users(node))]
    if not own:
        return None
    keys = np.concatenate([node.dataset.user_keys[_users(node)] for node in nodes])
    routes = np.concatenate([scored.routes for scored in own])
    network, effect = nodes[0].mrff, None
    tested = all(node.config.tests for node in nodes)
    clicks = nodes[0].config.objective != "next"
    scores = _kept(keys, own, clicks=clicks) if tested else None
    if network.num_experts > 1 and tested and tensors_of(network, "group"):
        kept = _with_one_expert(network, routes)
        shared = [_scored(node, best_round) for node in nodes if len(_users(node))]
        with torch.no_grad():
            for name, values in tensors_of(network, "group").items():
                values.copy_(kept[name])
        alone = own if mixture is None else [_of_network(scored) for scored in own]
        effect = _effect(keys, alone, shared)
    return UserGroups(keys, routes, effect, scores)


def _users(node: Node) -> np.ndarray:
    if node.config.tests:
        return node.tested
    # everybody who has a last interaction to be routed for
    return eligible_users(node.dataset, holdout=node.config.for_scoring.data.holdout)


def _scored(node: Node, best_round: int, mixture: Mixture | None = None) -> Scored:
    cohort = node.cohort(_users(node), up_to_round=best_round)
    learner = CohortLearner(node.mrff, node.config.for_scoring)
    return learner.score_as_loaded(cohort, "test", mixture)


def _of_network(scored: Scored) -> Scored:
    """Ranks by the network alone, of those by several mixes."""
    assert scored.ranks is not None
    return replace(scored, ranks=scored.ranks.by_mix(RANKED_BY.index("network")))


@torch.no_grad()
def _with_one_expert(network: MRFFNetwork, routes: np.ndarray) -> dict[str, torch.Tensor]:
    """Puts the mean expert, by users, in the place of each; returns what was there."""
    kept = {}
    for name, values in tensors_of(network, "group").items():  # (K, ...) each
        kept[name] = values.clone()
        layer = int(name.split(".")[1])
        loads = np.bincount(routes[:, layer], minlength=len(values)) / len(routes)
        weights = torch.from_numpy(loads).to(values)
        values.copy_(torch.tensordot(weights, kept[name], dims=1).expand_as(values))
    return kept


def _effect(keys: np.ndarray, own: list[Scored], shared: list[Scored]) -> Effect | None:
    """By what the run learns: clicks where it does."""
    clicks = own[0].ranks is None
    sides = {"own": _kept(keys, own, clicks=clicks), "shared": _kept(keys, shared, clicks=clicks)}
    name = "auc" if own[0].ranks is None else "ndcg10"
    measures = {side: TESTED[name].of(kept) for side, kept in sides.items()}
    own_side, shared_side = measures["own"], measures["shared"]
    if own_side is None or shared_side is None:
        return None
    pair = own_side, shared_side
    value, gain = _compared(pair, np.ones(len(keys)))
    return Effect(TESTED[name].label, value, gain, pair)


def _compared(sides: tuple[Weighted, Weighted], inside: np.ndarray) -> tuple[float, Difference]:
    """The first side's measure, and how far it is above the second's, among some users."""
    asked = {str(n): [partial(restricted, side, inside)] for n, side in enumerate(sides)}
    found = resampled({"": asked}, (len(inside), 1), resamples=RESAMPLES, seed=[0])[""]
    gain = paired_difference(found["0"], found["1"], confidence=CONFIDENCE, seed=[1])
    return float(found["0"][0, 0]), gain


def _kept(keys: np.ndarray, parts: list[Scored], *, clicks: bool) -> KeptScores:
    logits, labels = (np.concatenate([getattr(p, n) for p in parts]) for n in ("logits", "labels"))
    ranks = [part.ranks for part in parts if part.ranks is not None]
    joined = Ranks.joined(ranks, np.arange(len(keys))) if ranks else None
    return KeptScores(keys, logits if clicks else None, labels, joined)

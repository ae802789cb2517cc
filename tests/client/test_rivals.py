"""The rivals of MRFF on the client: FedProx's pull, private heads and bodies, clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client_app.learners import SharedModel, Trained
from client_app.learners import cohort as cohort_learner
from client_app.learners.cohort import CohortLearner
from client_app.learners.serial import SerialLearner
from mrff.algorithms.clusters import ClusterLearner
from mrff.config import RunConfig
from mrff.wire.requests import Part
from mrff_model.building import tensors_of
from mrff_model.scopes import cluster_name, cluster_part, is_expert
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import (
    EVERYBODY,
    ONE_MODEL,
    SIZES,
    assert_same,
    clustered,
    cohort_of,
    group_of,
    learner_named,
    model_of,
    network_of,
    public_of,
    rounds_agree,
    train,
)

pytestmark = pytest.mark.usefixtures("double_precision")


def trained_by(name: str, config: RunConfig, model: SharedModel | None = None) -> Trained:
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    cohort = cohort_of(dataset, network, EVERYBODY)
    learner = learner_named(name, network, config)
    return train(learner, config, model or model_of(network), cohort)


# FedProx


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_cohort_equals_serial_with_a_proximal_term(optimizer: str) -> None:
    rate = 0.3 if optimizer == "sgd" else 0.03
    rounds_agree(
        2, proximal_weight=0.7, local_steps=3, local_optimizer=optimizer, dropout=0.2,
        local_learning_rate=rate,
    )  # fmt: skip


@pytest.mark.parametrize("learner", ["serial", "cohort"])
def test_the_proximal_term_is_the_written_out_one(learner: str) -> None:
    """Of two SGD steps the second gains mu (w_1 - w_0), and w_1 - w_0 is one step's update."""
    rate, mu = 0.3, 0.5
    settings: dict[str, Any] = {"local_learning_rate": rate, "local_optimizer": "sgd"}
    one = trained_by(learner, small_config(**settings, local_steps=1))
    plain = trained_by(learner, small_config(**settings, local_steps=2))
    pulled = trained_by(learner, small_config(**settings, local_steps=2, proximal_weight=mu))
    for name, total in public_of(pulled).items():
        expected = public_of(plain)[name] - rate * mu * public_of(one)[name]
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5)
    for name, rows in pulled.private.items():  # they feel no pull
        torch.testing.assert_close(rows, plain.private[name])


@pytest.mark.parametrize("learner", ["serial", "cohort"])
def test_without_weight_or_with_one_step_fedprox_is_fedavg(learner: str) -> None:
    for settings in ({"local_steps": 3}, {"local_steps": 1, "proximal_weight": 9.0}):
        plain = trained_by(learner, small_config(**{**settings, "proximal_weight": 0.0}))
        assert_same(trained_by(learner, small_config(**settings)), plain)
    weak, strong = (
        trained_by(learner, small_config(local_steps=5, proximal_weight=mu)) for mu in (0.0, 2.0)
    )
    assert distance(strong) < distance(weak)


def distance(trained: Trained) -> float:
    return sum(float(value.square().sum()) for value in public_of(trained).values())


# Private heads, private everything


@pytest.mark.parametrize("kept", ["head", "all"])
@pytest.mark.parametrize("settings", [{}, {"local_steps": 3, "local_optimizer": "adam"}])
def test_cohort_equals_serial_with_more_private_parameters(
    kept: str, settings: dict[str, Any]
) -> None:
    outcomes = rounds_agree(
        2, private_parameters=kept, num_experts=1, dropout=0.2, max_windows_per_user="all",
        private_learning_rate=0.03, private_weight_decay=0.01, **settings,
    )  # fmt: skip
    private, public = outcomes[0].private.keys(), public_of(outcomes[0]).keys()
    assert {"head.up.weight", "user_bias"} <= private
    assert bool(public) is (kept == "head")
    assert not private & public


@pytest.mark.parametrize("kept", ["head", "all"])
def test_chunks_and_scores_with_more_private_parameters(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = small_config(private_parameters=kept, dropout=0.2), small_dataset(SIZES)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, EVERYBODY)
    parts: tuple[Part, ...] = ("valid", "test")
    for part in parts:
        one = SerialLearner(network, config).score(model, cohort, part)
        all_at_once = CohortLearner(network, config).score(model, cohort, part)
        np.testing.assert_allclose(all_at_once.logits, one.logits, atol=1e-6)
        assert all_at_once.routes.tolist() == one.routes.tolist()
        assert len(np.unique(one.logits)) == len(SIZES)
    monkeypatch.setattr(cohort_learner, "CACHE_POSITIONS", 1)
    assert_same(trained_by("cohort", config), trained_by("serial", config))


@pytest.mark.parametrize("kept", ["head", "all"])
def test_a_users_own_head_learns_from_them_alone(kept: str) -> None:
    config = small_config(private_parameters=kept, private_learning_rate=0.5)
    dataset = small_dataset(SIZES)
    network = network_of(config, dataset)
    everybody = cohort_of(dataset, network, EVERYBODY)
    learner, model = CohortLearner(network, config), model_of(network)
    together = train(learner, config, model, everybody)
    alone = train(learner, config, model, everybody.part(np.array([2])))
    for name, rows in alone.private.items():
        torch.testing.assert_close(rows[0], together.private[name][2])
    before = everybody.private["head.up.weight"][2]
    assert not torch.equal(alone.private["head.up.weight"][0], before)


# Clusters


def copy_of(model: SharedModel, cluster: int) -> SharedModel:
    """One copy as the shared model of a run without clusters."""
    arrays = cluster_part(model.group, cluster)
    public = {name: value for name, value in arrays.items() if not is_expert(name)}
    group = {name: value for name, value in arrays.items() if is_expert(name)}
    return SharedModel(1, public, group)


@pytest.mark.parametrize("steps", [1, 2])
def test_cohort_equals_serial_with_clusters(steps: int) -> None:
    config, _, _, model = clustered(3, local_steps=steps, dropout=0.2)
    cohort, serial = (trained_by(name, config, model) for name in ("cohort", "serial"))
    assert_same(cohort, serial)
    assert (serial.sums.numbers["expert_users"] > 0).sum() > 1  # or choosing is not tested
    assert public_of(serial) == {}


@pytest.mark.parametrize("name", ["serial", "cohort"])
def test_users_take_the_copy_with_the_lowest_training_loss(name: str) -> None:
    config, dataset, network, model = clustered(3, dropout=0.3)
    cohort = cohort_of(dataset, network, EVERYBODY)
    chosen = train(learner_named(name, network, config), config, model, cohort).routes[:, 0]
    quiet = replace(config, training=replace(config.training, local_learning_rate=1e-9))
    network.dropout = 0.0
    losses: list[list[float]] = []
    for cluster in range(3):
        losses.append([])
        for user in EVERYBODY:
            one, learner = cohort.part(np.array([user])), SerialLearner(network, quiet)
            sums = train(learner, quiet, copy_of(model, cluster), one).sums
            losses[-1].append(sums.number("loss") / sums.number("targets"))
    assert chosen.tolist() == np.argmin(losses, axis=0).tolist()
    assert len(set(chosen.tolist())) > 1
    best = learner_named(name, network, config).losses(model, cohort)
    np.testing.assert_allclose(best, np.min(losses, axis=0), rtol=1e-5)


def test_one_cluster_is_fedavg() -> None:
    config, dataset, network, model = clustered(1, dropout=0.2)
    cohort = cohort_of(dataset, network, EVERYBODY)
    learner = CohortLearner(network, config)
    clusters = train(ClusterLearner(learner, 1), config, model, cohort)
    plain = train(learner, config, model_of(network), cohort)
    everything = plain.sums.updates
    assert clusters.sums.updates.keys() == {cluster_name(0, name) for name in everything}
    for name, total in everything.items():
        assert np.array_equal(clusters.sums.updates[cluster_name(0, name)], total)
    for name in ("weight", "loss", "users", "targets"):
        assert clusters.sums.number(name) == plain.sums.number(name)
    assert clusters.sums.numbers["expert_users"].tolist() == [[len(SIZES)]]


def test_scores_are_those_of_the_chosen_copy() -> None:
    config, dataset, network, model = clustered(3)
    cohort = cohort_of(dataset, network, EVERYBODY)
    scores = learner_named("cohort", network, config).score(model, cohort, "test")
    for user, (cluster,) in enumerate(scores.routes):
        own = cohort.part(np.array([user]))
        alone = SerialLearner(network, config).score(copy_of(model, cluster), own, "test")
        np.testing.assert_allclose(scores.logits[user], alone.logits[0], atol=1e-6)
    assert tensors_of(network, "private") == {}


def test_a_user_who_is_not_finite_is_left_out_of_their_cluster() -> None:
    config, dataset, network, model = clustered(2)
    own = small_config(clusters=2, **{**ONE_MODEL, "user_bias": True})
    with_bias = network_of(own, dataset)
    cohort = cohort_of(dataset, with_bias, EVERYBODY)
    cohort.private["user_bias"][3] = float("nan")
    trained = train(learner_named("cohort", with_bias, config), config, model, cohort)
    assert trained.kept.tolist() == [user != 3 for user in EVERYBODY]
    assert trained.routes[3, 0] == -1
    assert int(trained.sums.numbers["expert_users"].sum()) == len(SIZES) - 1
    assert group_of(trained)
    assert network.kept_private == "user"

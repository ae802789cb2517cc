"""Matrix factorisation on devices: steps by hand, against one user at a time, and what leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client_app.learners import Cohort, SharedModel, learner_of
from client_app.learners.factor_steps import Local, one_pass
from client_app.learners.factors import FactorLearner
from client_app.learners.negatives import Samples, samples_of
from mrff.algorithms import network_of
from mrff.config import RunConfig
from mrff.sums.sampling import user_keys
from mrff_model.building import initial_shared, tensors_of
from mrff_model.factors import FactorNetwork
from tests.support.small_data import plain_client, small_config, small_dataset

SIZES = (9, 4, 14, 3, 25)
DATASET = small_dataset(SIZES)
TABLE = "item_table.weight"


def config_of(algorithm: str, **changes: Any) -> RunConfig:
    values = {"num_layers": 1, "num_experts": 1, "initial_scale": 1.0, "local_batch": 8, **changes}
    return small_config(objective="next", algorithm=algorithm, **values)


def round_of(config: RunConfig, users: list[int]) -> tuple[FactorLearner, SharedModel, Cohort]:
    """A learner, the shared model of round 1, and users with vectors of their own."""
    network = network_of(config, DATASET.schema, DATASET.item_features, seed=0)
    public, _ = initial_shared(network)
    model = SharedModel(1, {name: torch.from_numpy(a) for name, a in public.items()}, {})
    random = torch.Generator().manual_seed(2)
    private = {
        name: torch.randn(len(SIZES), *value.shape[1:], generator=random)[users]
        for name, value in tensors_of(network, "private").items()
    }
    learner = learner_of(config, network, "sum")
    assert isinstance(learner, FactorLearner)
    return learner, model, Cohort(DATASET, np.array(users), private, np.full((len(users), 1), -1))


def two_samples(table: list[list[float]], vector: list[float], bias: float | None) -> Local:
    """One user who likes item 1 and does not like item 2."""
    own = None if bias is None else torch.tensor([bias])
    rows = torch.tensor([[0.0, 0.0], *table])
    return Local.begun(rows, SAMPLES, torch.tensor([vector]), own)


SAMPLES = Samples(np.array([[1, 2]]), np.array([[1.0, 0.0]], np.float32), np.ones((1, 2), bool))


def test_a_step_of_both_at_once_by_hand() -> None:
    """Both scores are 0, so g = (-1/4, 1/4), and w moves by -0.4 (-[0, 1] - [0, 1]) / 4."""
    local = two_samples([[0.0, 1.0], [0.0, -1.0]], [1.0, 0.0], None)
    training = config_of("fedmf", private_learning_rate=0.4, local_learning_rate=2.0).training
    one_pass(local, SAMPLES, training, apart=False, first=True)
    assert local.vector.tolist() == [[1.0, pytest.approx(0.2)]]
    assert local.items.tolist() == [[0.5, 1.0], [-0.5, -1.0]]  # 2 / 4 of the vector that was
    assert local.loss.item() == pytest.approx(np.log(2.0))


def test_a_step_of_the_score_function_then_the_items_by_hand() -> None:
    """w = -0.4 (-[1, 0] + [0, 2]) / 4; then g = (sigmoid(0.1) - 1, sigmoid(-0.4)) / 2."""
    local = two_samples([[1.0, 0.0], [0.0, 2.0]], [0.0, 0.0], 0.0)
    training = config_of("pfedrec", private_learning_rate=0.4, local_learning_rate=1.0).training
    one_pass(local, SAMPLES, training, apart=True, first=True)
    assert local.vector[0].tolist() == pytest.approx([0.1, -0.2])
    assert local.bias is not None
    assert local.bias.item() == 0.0  # the two errors cancel
    assert local.items[0].tolist() == pytest.approx([1.0237510, -0.0475021], abs=1e-6)
    assert local.items[1].tolist() == pytest.approx([-0.0200656, 2.0401312], abs=1e-6)


def alone(learner: FactorLearner, model: SharedModel, cohort: Cohort, at: int) -> dict[str, Tensor]:
    """A user's table, vector and bias after a round, by autograd and a whole table of their own."""
    config, users = learner.config, cohort.users[[at]]
    training, personal = config.training, learner.network.personal
    own = {name: rows[at].clone() for name, rows in cohort.private.items()}
    own.setdefault("user_bias", torch.zeros(()))
    own[TABLE] = model.public[TABLE].clone()
    samples = samples_of(DATASET, users, config, model.round_number)

    def step(names: list[str], items: np.ndarray, labels: np.ndarray) -> None:
        leaves = [own[name].requires_grad_() for name in names]
        scores = own[TABLE][torch.from_numpy(items)] @ own["user_vector"] + own["user_bias"]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, torch.from_numpy(labels)
        )
        for name, gradient in zip(names, torch.autograd.grad(loss, leaves), strict=True):
            private = training.private_learning_rate
            rate = training.local_learning_rate if name == TABLE else private
            own[name] = (own[name] - rate * gradient).detach()

    mine = ["user_vector", "user_bias"] if "user_bias" in cohort.private else ["user_vector"]
    for number in range(training.local_steps):
        purpose = f"order of pass {number}"
        keys = user_keys(training.seed, model.round_number, DATASET.user_keys[users], purpose)
        ordered = samples.shuffled(keys)
        size = training.local_batch or len(ordered.items[0])
        for begin in range(0, len(ordered.items[0]), size):
            some = slice(begin, begin + size)
            batch = ordered.items[0, some], ordered.labels[0, some]
            for names in [mine, [TABLE]] if personal else [[*mine, TABLE]]:
                step(names, *batch)
    return own


SETTINGS: list[dict[str, Any]] = [
    {},
    {"local_steps": 2, "user_bias": False, "user_weighting": "targets"},
    {"local_batch": "all", "negatives": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["default", "passes", "whole"])
@pytest.mark.parametrize("algorithm", ["fedmf", "pfedrec"])
def test_a_round_is_the_sum_of_users_alone(algorithm: str, settings: dict[str, Any]) -> None:
    config = config_of(algorithm, local_learning_rate=3.0, private_learning_rate=0.5, **settings)
    learner, model, cohort = round_of(config, [0, 1, 2, 3, 4])
    trained = learner.train(model, cohort, plain_client(config, DATASET))
    expected = torch.zeros_like(model.public[TABLE])
    for at, user in enumerate(cohort.users):
        own = alone(learner, model, cohort, at)
        weight = SIZES[user] - 2 if config.training.user_weighting == "targets" else 1
        expected += weight * (own[TABLE] - model.public[TABLE])
        for name, rows in trained.private.items():
            torch.testing.assert_close(rows[at], own[name], atol=1e-5, rtol=1e-5)
    update = torch.from_numpy(trained.sums.updates[TABLE]).float()
    torch.testing.assert_close(update, expected, atol=1e-4, rtol=1e-4)
    assert trained.sums.number("targets") == sum(SIZES) - 2 * len(SIZES)
    assert trained.kept.all()


@pytest.mark.parametrize("algorithm", ["fedmf", "pfedrec"])
def test_who_scores_what(algorithm: str) -> None:
    """FedMF by the shared table; PFedRec by what its users would train in the next round."""
    config = config_of(algorithm, local_learning_rate=3.0, private_learning_rate=0.5)
    learner, model, cohort = round_of(config, [2, 4, 0])
    learner.train(model, cohort, plain_client(config, DATASET))
    next_round = SharedModel(2, model.public, {})
    ((rows, scores),) = learner.scores(model, cohort)
    for at, found in zip(rows, scores, strict=True):
        expected = model.public[TABLE] @ cohort.private["user_vector"][at]
        if algorithm == "pfedrec":
            own = alone(learner, next_round, cohort, int(at))
            expected = own[TABLE] @ own["user_vector"]
        torch.testing.assert_close(found, expected[1:], atol=1e-4, rtol=1e-4)


def test_a_user_who_diverges_is_left_out_alone() -> None:
    config = config_of("pfedrec")
    learner, model, cohort = round_of(config, [0, 1, 2])
    others = learner.train(model, cohort.part(np.array([0, 2])), plain_client(config, DATASET))
    cohort.private["user_vector"][1] = torch.inf
    trained = learner.train(model, cohort, plain_client(config, DATASET))
    assert trained.kept.tolist() == [True, False, True]
    assert trained.private["user_vector"][1].isinf().all()  # as it was
    update, expected = (t.sums.updates[TABLE] for t in (trained, others))
    np.testing.assert_allclose(update, expected, atol=1e-6)


def test_a_server_reads_the_items_of_a_user_alone_on_a_node() -> None:
    """The attack: rows move along one line, items that were met one way, negatives the other."""
    config = config_of("fedmf", local_batch="all")
    for user in range(len(SIZES)):
        learner, model, cohort = round_of(config, [user])
        update = learner.train(model, cohort, plain_client(config, DATASET)).sums.updates[TABLE]
        line = np.linalg.svd(update)[2][0]
        np.testing.assert_allclose(np.outer(update @ line, line), update, atol=1e-5)
        one_side = set(np.flatnonzero(update @ line > 1e-7).tolist())
        other_side = set(np.flatnonzero(update @ line < -1e-7).tolist())
        begin, end = DATASET.offsets[user], DATASET.offsets[user + 1] - 2
        met = set(DATASET.items[begin:end].tolist())
        assert met in (one_side, other_side)


def test_the_network_is_small_and_padding_stays_zero() -> None:
    config = config_of("pfedrec", local_learning_rate=5.0)
    learner, model, cohort = round_of(config, [0, 1, 2, 3, 4])
    network = learner.network
    assert isinstance(network, FactorNetwork)
    assert {n: tuple(p.shape) for n, p in network.named_parameters()} == {
        TABLE: (13, 3), "user_vector": (1, 3), "user_bias": (1,),
    }  # fmt: skip
    update = learner.train(model, cohort, plain_client(config, DATASET)).sums.updates[TABLE]
    assert not update[0].any()
    assert update[1:].any(1).all()

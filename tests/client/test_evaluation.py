"""What a node sums up of its users' scores, against scikit-learn and by hand."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from client_app.learners import Cohort
from client_app.learners.serial import SerialLearner
from mrff.data.windows import evaluation_records
from mrff.metrics import Evaluation
from mrff.metrics.metric import Grain, Scored
from mrff.sums import CohortSums
from mrff_model.building import tensors_of
from tests.support.small_data import small_config, small_dataset, small_network
from tests.support.small_training import model_of


def sums_of(logits: list[list[float]], labels: list[list[int]], *, bins: int) -> CohortSums:
    routes = np.zeros((len(logits), 1), dtype=np.int64)
    scored = Scored(np.array(logits), np.array(labels, dtype=float), routes, before=routes - 1)
    return Evaluation(Grain(bins, (1, 1), len(logits[0]))).sums_of(scored)


def own_auc(sums: CohortSums) -> tuple[float, int]:
    return sums.number("gauc_sum"), sums.number("gauc_users")


def test_sums_by_hand() -> None:
    sums = sums_of([[0.0, 2.0], [-50.0, 50.0]], [[1, 0], [0, 1]], bins=4)
    assert (sums.number("users"), sums.number("targets")) == (2, 4)
    expected = math.log(2) + math.log(1 + math.exp(2))
    assert math.isclose(sums.number("log_loss_sum"), expected, rel_tol=1e-9)
    assert sums.numbers["positives"].tolist() == [0, 0, 1, 1]
    assert sums.numbers["negatives"].tolist() == [1, 0, 0, 1]
    assert own_auc(sums) == (0.0 + 1.0, 2)


def test_a_user_with_one_class_has_no_auc_of_their_own() -> None:
    sums = sums_of([[0.1, 0.2], [0.3, 0.3]], [[1, 1], [1, 0]], bins=16)
    assert own_auc(sums) == (0.5, 1)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_log_loss_and_user_auc_equal_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 2, (6, 5)), random.integers(0, 2, (6, 5))
    sums = sums_of(logits.tolist(), labels.tolist(), bins=64)
    probabilities = 1 / (1 + np.exp(-logits))
    assert math.isclose(
        sums.number("log_loss_sum") / 30,
        log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]),
        rel_tol=1e-9,
    )
    both = [u for u in range(6) if 0 < labels[u].sum() < 5]
    expected = sum(roc_auc_score(labels[u], logits[u]) for u in both)
    assert math.isclose(sums.number("gauc_sum"), expected, abs_tol=1e-9)
    assert sums.number("gauc_users") == len(both)


def test_extreme_logits_stay_finite() -> None:
    sums = sums_of([[1e30, -1e30]], [[0, 1]], bins=8)
    assert math.isfinite(sums.number("log_loss_sum"))
    assert sums.numbers["positives"][0] == 1
    assert sums.numbers["negatives"][-1] == 1


def test_scoring_uses_the_held_out_targets_and_each_users_own_parameters() -> None:
    config, dataset = small_config(holdout=2), small_dataset((9, 5, 14))
    network, users = small_network(config, dataset), np.array([2, 0])
    private = {
        n: v.expand(2, *v.shape[1:]).clone() for n, v in tensors_of(network, "private").items()
    }
    learner, model = SerialLearner(network, config), model_of(network)
    cohort = Cohort(dataset, users, private, np.full((2, 2), -1))
    plain = learner.score(model, cohort, "test")
    private["user_bias"][0] += 3.0
    moved = learner.score(model, cohort, "test")
    np.testing.assert_allclose(moved.logits - plain.logits, [[3.0, 3.0], [0.0, 0.0]], atol=1e-5)
    expected = [dataset.labels[26:28].tolist(), dataset.labels[7:9].tolist()]
    assert plain.labels.tolist() == expected
    records = evaluation_records(dataset, users, length=8, holdout=2, part="valid")
    assert records.targets[records.mask].tolist() == [
        *dataset.items[24:26].tolist(),
        *dataset.items[5:7].tolist(),
    ]

"""What a node sums up of its users' scores, against scikit-learn and by hand."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from client_app.evaluation import Scores, score_serially, sum_scores
from client_app.training import Cohort
from mrff.data.windows import evaluation_records
from mrff_model.building import tensors_of
from tests.support.small_data import small_config, small_dataset, small_network


def scores(logits: list[list[float]], labels: list[list[int]]) -> Scores:
    return Scores(np.array(logits), np.array(labels, dtype=float), np.zeros((len(logits), 1), int))


def test_sums_by_hand() -> None:
    sums = sum_scores(scores([[0.0, 2.0], [-50.0, 50.0]], [[1, 0], [0, 1]]), bins=4)
    assert (sums.num_users, sums.num_targets) == (2, 4)
    assert math.isclose(sums.log_loss_sum, math.log(2) + math.log(1 + math.exp(2)), rel_tol=1e-9)
    assert sums.positives.tolist() == [0, 0, 1, 1]
    assert sums.negatives.tolist() == [1, 0, 0, 1]
    assert (sums.gauc_sum, sums.gauc_users) == (0.0 + 1.0, 2)


def test_a_user_with_one_class_has_no_auc_of_his_own() -> None:
    sums = sum_scores(scores([[0.1, 0.2], [0.3, 0.3]], [[1, 1], [1, 0]]), bins=16)
    assert (sums.gauc_sum, sums.gauc_users) == (0.5, 1)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_log_loss_and_user_auc_equal_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 2, (6, 5)), random.integers(0, 2, (6, 5))
    sums = sum_scores(Scores(logits, labels, np.zeros((6, 1), int)), bins=64)
    probabilities = 1 / (1 + np.exp(-logits))
    assert math.isclose(
        sums.log_loss_sum / 30, log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]),
        rel_tol=1e-9,
    )  # fmt: skip
    both = [u for u in range(6) if 0 < labels[u].sum() < 5]
    expected = sum(roc_auc_score(labels[u], logits[u]) for u in both)
    assert math.isclose(sums.gauc_sum, expected, abs_tol=1e-9)
    assert sums.gauc_users == len(both)


def test_extreme_logits_stay_finite() -> None:
    sums = sum_scores(scores([[1e30, -1e30]], [[0, 1]]), bins=8)
    assert math.isfinite(sums.log_loss_sum)
    assert sums.positives[0] == 1
    assert sums.negatives[-1] == 1


def test_scoring_uses_the_held_out_targets_and_each_users_own_parameters() -> None:
    config, dataset = small_config(holdout=2), small_dataset((9, 5, 14))
    network, users = small_network(config, dataset), np.array([2, 0])
    private = {
        n: v.expand(2, *v.shape[1:]).clone() for n, v in tensors_of(network, "private").items()
    }
    plain = score_serially(network, Cohort(dataset, users, private), data=config.data, part="test")
    private["user_bias"][0] += 3.0
    moved = score_serially(network, Cohort(dataset, users, private), data=config.data, part="test")
    np.testing.assert_allclose(moved.logits - plain.logits, [[3.0, 3.0], [0.0, 0.0]], atol=1e-5)
    expected = [dataset.labels[26:28].tolist(), dataset.labels[7:9].tolist()]
    assert plain.labels.tolist() == expected
    records = evaluation_records(dataset, users, length=8, holdout=2, part="valid")
    assert records.targets[records.mask].tolist() == [
        *dataset.items[24:26].tolist(),
        *dataset.items[5:7].tolist(),
    ]

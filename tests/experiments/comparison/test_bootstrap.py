"""The statistics of a comparison: numbers worked by hand, scikit-learn, and what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from mrff.experiments.comparison.bootstrap import (
    holm,
    p_value,
    paired_difference,
    resampled,
)
from mrff.experiments.comparison.measures import auc_of, mean_over_users, user_log_loss


def draw(logits: dict[str, np.ndarray], labels: np.ndarray, *, resamples: int, seed: list[int]):
    """AUC and log loss of every method's runs (S, U, k)."""
    losses = {name: [user_log_loss(run, labels) for run in runs] for name, runs in logits.items()}
    measures = {
        "auc": {name: [auc_of(run, labels) for run in runs] for name, runs in logits.items()},
        "log_loss": {
            name: [mean_over_users(loss, np.ones(len(loss))) for loss in of]
            for name, of in losses.items()
        },
    }
    return resampled(measures, labels.shape, resamples=resamples, seed=seed)


def compare(method: np.ndarray, reference: np.ndarray, labels: np.ndarray, *, resamples: int = 400):
    drawn = draw({"m": method, "r": reference}, labels, resamples=resamples, seed=[7])
    return {
        metric: paired_difference(of["m"], of["r"], confidence=0.95, seed=[8])
        for metric, of in drawn.items()
    }


def test_a_weighted_auc_worked_by_hand() -> None:
    """Users with one item: scores .1 -, .4 +, .4 -, .8 +. Pairs in order: 3.5 of 4."""
    auc = auc_of([[0.1], [0.4], [0.4], [0.8]], [[0], [1], [0], [1]])
    once, twice, one_class = auc([[1, 1, 1, 1], [1, 2, 1, 0], [0, 1, 0, 1]])
    assert once == 3.5 / 4
    assert twice == (2 * (1 + 0.5)) / (2 * 2)  # the .4 + twice, the .8 + not at all
    assert math.isnan(one_class)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 4), st.integers(1, 8))
def test_auc_and_log_loss_are_scikit_learns_with_sample_weights(
    seed: int, users: int, k: int, levels: int
) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(-levels, levels + 1, (users, k)) / 3  # few levels: many ties
    labels = random.integers(0, 2, (users, k))
    labels[0, 0], labels[1, 0] = 0, 1
    counts = random.integers(0, 4, users)
    counts[:2] += 1
    weights = np.repeat(counts, k)
    ours = auc_of(scores, labels)(counts[None])[0]
    expected = roc_auc_score(labels.ravel(), scores.ravel(), sample_weight=weights)
    assert ours == pytest.approx(expected, abs=1e-12)
    mean = (user_log_loss(scores, labels) * counts).sum() / counts.sum()
    probabilities = 1 / (1 + np.exp(-scores.ravel()))
    expected = log_loss(labels.ravel(), probabilities, sample_weight=weights, labels=[0, 1])
    assert mean == pytest.approx(expected, abs=1e-12)


def test_resamples_are_of_users_and_column_0_is_the_data_itself() -> None:
    """Two users with constant losses 0 and log 2: a resample's mean is 0, log(2)/2 or log 2."""
    logits = np.array([[[800.0], [0.0]]])
    drawn = draw({"m": logits}, np.array([[1], [1]]), resamples=2000, seed=[1])
    losses = drawn["log_loss"]["m"][0] / math.log(2)
    assert losses[0] == pytest.approx(0.5)
    values, counts = np.unique(losses[1:].round(9), return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    logits, labels = {"m": random.normal(size=(2, 20, 2))}, random.integers(0, 2, (20, 2))
    whole = draw(logits, labels, resamples=50, seed=[1])
    monkeypatch.setattr("mrff.experiments.comparison.bootstrap._CELLS", 280)
    parts = draw(logits, labels, resamples=50, seed=[1])
    for metric in whole:
        assert np.allclose(whole[metric]["m"], parts[metric]["m"], atol=1e-12)


def test_seeds_are_drawn_as_well_as_users() -> None:
    """Nothing varies over users; two seeds differ by +1 and +3: a draw's mean is 1, 2 or 3."""
    method = np.array([[1.0] * 4001, [3.0] * 4001])
    result = paired_difference(method, np.zeros((1, 4001)), confidence=0.95, seed=[3])
    assert (result.difference, result.low, result.high) == (2.0, 1.0, 3.0)
    assert result.p_value == pytest.approx(2 / 4001)
    single = paired_difference(method[:1], np.zeros((1, 4001)), confidence=0.95, seed=[3])
    assert (single.low, single.high) == (1.0, 1.0)


def test_p_values_worked_by_hand() -> None:
    assert p_value(np.array([1.0, 2.0, 3.0])) == 2 * 1 / 4
    assert p_value(np.array([-1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == 2 * 2 / 8
    assert p_value(np.zeros(9)) == 1.0


def test_holm_worked_by_hand() -> None:
    """0.01 x 4, then max(0.04, 0.02 x 3), max(0.06, 0.03 x 2), and 0.5 x 1; NaN is no test."""
    adjusted = holm([0.5, 0.01, math.nan, 0.03, 0.02])
    assert adjusted[:2] == [0.5, 0.04]
    assert math.isnan(adjusted[2])
    assert adjusted[3:] == [0.06, 0.06]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    by_p = [q for _, q in sorted(zip(values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_identical_methods_do_not_differ(seed: int, seeds: int, k: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(seeds, 40, k)), random.integers(0, 2, (40, k))
    labels[0, 0], labels[1, 0] = 0, 1
    for result in compare(logits, logits.copy(), labels).values():
        assert result.difference == 0
        assert result.low <= 0 <= result.high
        assert result.p_value == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_exchanging_the_methods_changes_the_sign_only(seed: int, seeds: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (60, 2))
    one, other = random.normal(size=(2, seeds, 60, 2)) + labels * random.normal()
    there, back = compare(one, other, labels), compare(other, one, labels)
    for metric, result in there.items():
        opposite = back[metric]
        assert result.difference == pytest.approx(-opposite.difference)
        assert (result.low, result.high) == pytest.approx((-opposite.high, -opposite.low))
        assert result.p_value == opposite.p_value
        assert result.low <= result.high


def test_a_clear_difference_is_found_and_noise_is_not() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, (400, 1))
    noise = random.normal(size=(2, 400, 1))
    good = labels[None] * 2.0 + noise
    found = compare(good, noise, labels, resamples=1000)
    assert found["auc"].low > 0.2
    assert found["auc"].p_value < 0.01
    assert found["log_loss"].high < 0
    false_alarms = 0
    for _ in range(40):
        one, other = random.normal(size=(2, 1, 200, 1))
        result = compare(one, other, labels[:200], resamples=300)["auc"]
        false_alarms += result.p_value < 0.05
    assert false_alarms <= 6  # 2 expected; more than 6 of 40 has probability 0.003


def test_one_class_gives_no_interval() -> None:
    labels = np.ones((30, 1), dtype=int)
    result = compare(np.zeros((1, 30, 1)), np.ones((1, 30, 1)), labels)
    assert math.isnan(result["auc"].p_value)
    assert math.isnan(result["auc"].low)
    assert result["log_loss"].difference > 0
